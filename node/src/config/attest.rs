use starling_proto::ServiceName;
use starling_transport::Identity;

use super::Loaded;
use super::problem::{ConfigError, Problem};

/// What a certificate says, as far as a configuration has to agree with it.
pub trait Certificate {
    /// The name of the node it was issued for.
    fn node_name(&self) -> &str;
    /// May the node run this service?
    fn may_run(&self, service: &ServiceName) -> bool;
    /// Which services it may run, for a hint.
    fn services(&self) -> String;
}

impl Loaded {
    /// Does the identity allow what the configuration says?
    ///
    /// A `node.name` that nobody wrote becomes that of the certificate, since host names change and certificates do not.
    ///
    /// # Errors
    /// A name that is not the certificate's; each service that the certificate does not name.
    pub fn attest(&mut self, certificate: &impl Certificate) -> Result<(), ConfigError> {
        let mut problems: Vec<Problem> = Vec::new();
        let name = certificate.node_name();
        if self.keys.contains_key("node.name") {
            if self.config.node.name != name {
                let what = format!("'{}' is not the name in the certificate, '{name}'", self.config.node.name);
                problems
                    .push(self.key("node.name").problem(what, "write that name, or issue a certificate for this one"));
            }
        } else {
            name.clone_into(&mut self.config.node.name);
        }
        let offered = self.config.services.iter().map(|service| &service.name);
        let keys = self.services.iter().map(|keys| &keys.name);
        let said = self.config.listeners.iter().filter_map(|listener| listener.source.as_ref());
        let said_keys = self.listeners.iter().filter_map(|keys| keys.source.as_ref());
        let namespaces = self.config.capture.namespaces.iter().map(|namespace| &namespace.source);
        let namespace_keys = self.namespaces.iter().map(|keys| &keys.source);
        let outside = self.config.egresses.iter().map(|egress| &egress.name).zip(&self.egresses);
        let visitors = self.config.ingresses.iter().zip(&self.ingresses);
        let visitors = visitors.filter_map(|(ingress, key)| Some((ingress.source.as_ref()?, key)));
        let all = offered.zip(keys).chain(outside).map(|named| ("run", named));
        let spoken =
            said.zip(said_keys).chain(visitors).chain(namespaces.zip(namespace_keys)).map(|named| ("speak for", named));
        for (verb, (service, key)) in all.chain(spoken) {
            if !certificate.may_run(service) {
                let allowed = certificate.services();
                let what = format!("the certificate does not let this node {verb} '{service}'; it names {allowed}");
                let hint = format!(
                    "issue it anew with all its services: starling ca issue --name {name} --service {service} (and one --service for each other) --dir CA --out {} --force",
                    self.config.identity.dir.display()
                );
                problems.push(key.problem(what, hint));
            }
        }
        ConfigError::check(problems)
    }
}

impl Certificate for Identity {
    fn node_name(&self) -> &str {
        self.spiffe().node()
    }

    fn may_run(&self, service: &ServiceName) -> bool {
        self.may_run(service)
    }

    fn services(&self) -> String {
        match self.services() {
            [] => "none".to_owned(),
            services => services.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        }
    }
}
