use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The namespace of a service that names none.
pub(crate) const DEFAULT_NAMESPACE: &str = "default";

/// A service's name: a DNS label within a namespace. Cheap to clone.
///
/// Written `orders` (namespace `default`) or `orders.shop`; as a path, `ns/shop/svc/orders`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ServiceName {
    /// `ns/<namespace>/svc/<name>`
    path: Arc<str>,
    namespace_len: u8,
}

/// Why some text is no [`ServiceName`] or [`ServicePattern`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServiceNameError {
    /// Not `name` or `name.namespace`.
    #[error("'{0}' is not a service name: write name or name.namespace")]
    Shape(String),
    /// A part that is no DNS label.
    #[error("'{0}' is not a DNS label: 1 to 63 of a-z, 0-9 and '-', not starting or ending with '-'")]
    Label(String),
    /// Not `ns/<namespace>/svc/<name>`.
    #[error("'{0}' is not of the form ns/<namespace>/svc/<service>")]
    Path(String),
}

fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn label(text: &str) -> Result<&str, ServiceNameError> {
    if is_label(text) { Ok(text) } else { Err(ServiceNameError::Label(text.to_owned())) }
}

const NS: &str = "ns/";
const SVC: &str = "/svc/";

impl ServiceName {
    /// A service in a namespace.
    ///
    /// # Errors
    /// If either is no DNS label.
    pub fn try_new(namespace: &str, name: &str) -> Result<Self, ServiceNameError> {
        let (namespace, name) = (label(namespace)?, label(name)?);
        let path = format!("{NS}{namespace}{SVC}{name}");
        // A label has at most 63 bytes.
        #[allow(clippy::cast_possible_truncation)]
        let namespace_len = namespace.len() as u8;
        Ok(Self { path: path.into(), namespace_len })
    }

    /// Reads the form that travels: `ns/<namespace>/svc/<name>`.
    ///
    /// # Errors
    /// If the text has another form or a part is no DNS label.
    pub fn from_path(path: &str) -> Result<Self, ServiceNameError> {
        let (namespace, name) = path
            .strip_prefix(NS)
            .and_then(|rest| rest.split_once(SVC))
            .ok_or_else(|| ServiceNameError::Path(path.to_owned()))?;
        Self::try_new(namespace, name)
    }

    /// The form that travels: `ns/<namespace>/svc/<name>`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Its namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.path[NS.len()..NS.len() + usize::from(self.namespace_len)]
    }

    /// Is its namespace the one of services that name none?
    #[must_use]
    pub fn is_in_default_namespace(&self) -> bool {
        self.namespace() == DEFAULT_NAMESPACE
    }

    /// Its name within the namespace.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.path[NS.len() + usize::from(self.namespace_len) + SVC.len()..]
    }
}

impl FromStr for ServiceName {
    type Err = ServiceNameError;

    fn from_str(text: &str) -> Result<Self, ServiceNameError> {
        let mut parts = text.split('.');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(name), None, _) => Self::try_new(DEFAULT_NAMESPACE, name),
            (Some(name), Some(namespace), None) => Self::try_new(namespace, name),
            _ => Err(ServiceNameError::Shape(text.to_owned())),
        }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        if !self.is_in_default_namespace() {
            write!(f, ".{}", self.namespace())?;
        }
        Ok(())
    }
}

impl fmt::Debug for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServiceName({self})")
    }
}

impl From<ServiceName> for String {
    fn from(name: ServiceName) -> Self {
        name.to_string()
    }
}

impl TryFrom<String> for ServiceName {
    type Error = ServiceNameError;

    fn try_from(text: String) -> Result<Self, ServiceNameError> {
        text.parse()
    }
}

/// Which services a certificate may run: `ns/<namespace>/svc/<service>`, where `*` stands for any run of characters
/// within one part. On the command line also `web` (namespace `default`) and `shop/*` (namespace `shop`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ServicePattern {
    namespace: String,
    name: String,
}

impl ServicePattern {
    /// Does it name this service?
    #[must_use]
    pub fn matches(&self, service: &ServiceName) -> bool {
        glob(self.namespace.as_bytes(), service.namespace().as_bytes())
            && glob(self.name.as_bytes(), service.name().as_bytes())
    }
}

/// `*` matches any run of bytes. Linear in both lengths but for the one star it falls back to.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p) == Some(&text[t]) {
            p += 1;
            t += 1;
        } else if let Some((star_p, star_t)) = star {
            p = star_p + 1;
            t = star_t + 1;
            star = Some((star_p, t));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|b| *b == b'*')
}

fn pattern_part(text: &str) -> Result<String, ServiceNameError> {
    let plain = text.replace('*', "a");
    if is_label(&plain) { Ok(text.to_owned()) } else { Err(ServiceNameError::Label(text.to_owned())) }
}

impl FromStr for ServicePattern {
    type Err = ServiceNameError;

    fn from_str(text: &str) -> Result<Self, ServiceNameError> {
        let (namespace, name) = match text.strip_prefix(NS) {
            Some(rest) => rest.split_once(SVC).ok_or_else(|| ServiceNameError::Path(text.to_owned()))?,
            None => match text.split_once('/') {
                Some(parts) => parts,
                None => match text.split_once('.') {
                    Some((name, namespace)) => (namespace, name),
                    None => (DEFAULT_NAMESPACE, text),
                },
            },
        };
        Ok(Self { namespace: pattern_part(namespace)?, name: pattern_part(name)? })
    }
}

impl fmt::Display for ServicePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{NS}{}{SVC}{}", self.namespace, self.name)
    }
}

impl fmt::Debug for ServicePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServicePattern({self})")
    }
}

impl From<ServicePattern> for String {
    fn from(pattern: ServicePattern) -> Self {
        pattern.to_string()
    }
}

impl TryFrom<String> for ServicePattern {
    type Error = ServiceNameError;

    fn try_from(text: String) -> Result<Self, ServiceNameError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_reads_as_users_write_it() {
        let orders: ServiceName = "orders".parse().unwrap();
        assert_eq!((orders.namespace(), orders.name()), ("default", "orders"));
        assert_eq!(orders.path(), "ns/default/svc/orders");
        assert_eq!(orders.to_string(), "orders");
        let shop: ServiceName = "orders.shop".parse().unwrap();
        assert_eq!((shop.namespace(), shop.name()), ("shop", "orders"));
        assert_eq!(shop.to_string(), "orders.shop");
        assert_eq!(ServiceName::from_path(shop.path()), Ok(shop));
    }

    #[test]
    fn a_bad_name_says_what_is_wrong() {
        for bad in ["", "a.b.c", "Orders", "-a", "a-", "a_b", "orders.", ".shop", &"a".repeat(64)] {
            assert!(bad.parse::<ServiceName>().is_err(), "{bad}");
        }
        for bad in ["orders", "ns/a", "ns/a/svc/", "ns//svc/a", "ns/a/svc/b/c"] {
            assert!(ServiceName::from_path(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_pattern_names_what_its_globs_cover() {
        let covers = |pattern: &str, service: &str| {
            pattern.parse::<ServicePattern>().unwrap().matches(&service.parse().unwrap())
        };
        assert!(covers("web", "web"));
        assert!(!covers("web", "web.shop"));
        assert!(covers("shop/*", "orders.shop"));
        assert!(!covers("shop/*", "orders"));
        assert!(covers("ns/shop/svc/or*rs", "orders.shop"));
        assert!(!covers("ns/shop/svc/or*rs", "order.shop"));
        assert!(covers("*/*", "a.b"));
        assert!(covers("web.shop", "web.shop"));
        assert!("ns/a".parse::<ServicePattern>().is_err());
        assert!("a b".parse::<ServicePattern>().is_err());
    }

    proptest! {
        #[test]
        fn a_name_survives_both_text_forms(ns in "[a-z0-9]{1,8}", name in "[a-z]([a-z0-9-]{0,6}[a-z0-9])?") {
            let service = ServiceName::try_new(&ns, &name).unwrap();
            prop_assert_eq!(ServiceName::from_path(service.path()).unwrap(), service.clone());
            prop_assert_eq!(service.to_string().parse::<ServiceName>().unwrap(), service);
        }

        #[test]
        fn reading_arbitrary_text_never_panics(text in ".{0,80}") {
            let _ = text.parse::<ServiceName>();
            let _ = text.parse::<ServicePattern>();
            let _ = ServiceName::from_path(&text);
        }
    }
}
