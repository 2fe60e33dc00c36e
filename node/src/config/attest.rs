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
        let services = self.config.services.iter().enumerate().map(|(index, it)| (&it.name, self.service_key(index)));
        let egresses = self.config.egresses.iter().enumerate().map(|(index, it)| (&it.name, self.egress_key(index)));
        for (service, key) in services.chain(egresses) {
            if !certificate.may_run(service) {
                let allowed = certificate.services();
                let what = format!("the certificate does not let this node run '{service}'; it names {allowed}");
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
