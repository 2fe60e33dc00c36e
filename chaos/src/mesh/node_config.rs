use std::path::PathBuf;

use toml::{Table, Value};

use crate::host::Host;

/// The configuration of a node in the making.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    directory: PathBuf,
    keys: Table,
    services: Vec<ServiceConfig>,
    listeners: Vec<Table>,
    /// Services that the certificate names beside those that are offered.
    others: Vec<String>,
}

/// A `[[service]]` in the making.
#[derive(Debug, Clone)]
pub struct ServiceConfig(Table);

impl NodeConfig {
    pub(super) fn new(name: &str, host: &Host, seeds: &[String]) -> Self {
        let directory = host.directory().to_owned();
        let mut config =
            Self { directory, keys: Table::new(), services: Vec::new(), listeners: Vec::new(), others: Vec::new() };
        let path = |name: &str| host.directory().join(name).display().to_string();
        config
            .set("node.name", name)
            .set("node.data_dir", path("data"))
            .set("mesh.advertise", host.address().to_string())
            .set("mesh.seeds", seeds.iter().map(|seed| Value::from(seed.as_str())).collect::<Vec<_>>())
            .set("identity.dir", path("identity"))
            .set("admin.socket", path("admin.sock"));
        config
    }

    /// Sets a key by its dotted path, such as `log.level`.
    pub fn set(&mut self, path: &str, value: impl Into<Value>) -> &mut Self {
        let mut table = &mut self.keys;
        let mut parts: Vec<&str> = path.split('.').collect();
        let last = parts.pop().unwrap_or_default();
        for part in parts {
            let inner = table.entry(part).or_insert_with(|| Value::Table(Table::new()));
            table = inner.as_table_mut().unwrap_or_else(|| panic!("'{path}': {part} is no section"));
        }
        table.insert(last.to_owned(), value.into());
        self
    }

    /// Adds a service of this node that listens there, such as `127.0.0.1:8080`.
    pub fn service(&mut self, name: &str, address: &str) -> &mut ServiceConfig {
        let table = [("name", name), ("address", address)].map(|(key, text)| (key.to_owned(), Value::from(text)));
        self.services.push(ServiceConfig(table.into_iter().collect()));
        let last = self.services.len() - 1;
        &mut self.services[last]
    }

    /// Adds an explicit listener for a service.
    pub fn listener(&mut self, address: &str, service: &str) -> &mut Self {
        let table = [("address", address), ("service", service)].map(|(key, text)| (key.to_owned(), Value::from(text)));
        self.listeners.push(table.into_iter().collect());
        self
    }

    /// Adds one whose callers speak for a service.
    pub fn listener_of(&mut self, address: &str, service: &str, source: &str) -> &mut Self {
        self.listener(address, service);
        if let Some(listener) = self.listeners.last_mut() {
            listener.insert("source".to_owned(), source.into());
        }
        self.may_run(source)
    }

    /// Has the certificate name a service that is not offered.
    pub fn may_run(&mut self, service: &str) -> &mut Self {
        self.others.push(service.to_owned());
        self
    }

    /// Where its identity is.
    pub fn identity(&self) -> PathBuf {
        self.directory.join("identity")
    }

    /// Where its agent is spoken to.
    pub fn socket(&self) -> PathBuf {
        self.directory.join("admin.sock")
    }

    pub(super) fn service_names(&self) -> impl Iterator<Item = &str> {
        let offered = self.services.iter().filter_map(|service| service.0.get("name")?.as_str());
        offered.chain(self.others.iter().map(String::as_str))
    }

    /// The file's text.
    pub fn to_toml(&self) -> String {
        let mut file = self.keys.clone();
        let services = self.services.iter().map(|service| Value::Table(service.0.clone()));
        let listeners = self.listeners.iter().map(|listener| Value::Table(listener.clone()));
        file.insert("service".to_owned(), services.collect::<Vec<_>>().into());
        file.insert("listener".to_owned(), listeners.collect::<Vec<_>>().into());
        file.to_string()
    }
}

impl ServiceConfig {
    /// Sets a key.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) -> &mut Self {
        self.0.insert(key.to_owned(), value.into());
        self
    }

    /// The port callers use.
    pub fn port(&mut self, port: u16) -> &mut Self {
        self.0.insert("port".to_owned(), i64::from(port).into());
        self
    }

    /// What it speaks: `http`, `tcp`.
    pub fn protocol(&mut self, protocol: &str) -> &mut Self {
        self.0.insert("protocol".to_owned(), protocol.into());
        self
    }
}
