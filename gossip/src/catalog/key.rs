//! The keys of the catalog.
//!
//! | key | body |
//! | --- | --- |
//! | `node` | `NodeRecord` |
//! | `svc/<namespace>/<service>/<instance>` | `ServiceRecord` |
//! | any other | kept and passed on unread: something that a newer node knows |

use std::fmt;

use starling_proto::{ServiceName, ServiceNameError};

use super::MAX_KEY;

/// The key of what a node says of itself.
pub const NODE: &str = "node";
const SERVICE: &str = "svc/";

/// A key, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// What a node says of itself.
    Node,
    /// One service instance.
    Service {
        /// Which service.
        service: ServiceName,
        /// Which instance of it on this node.
        instance: u32,
    },
    /// Not known to this version.
    Other(String),
}

/// Why some text is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Empty or longer than [`MAX_KEY`].
    #[error("a key has 1 to {MAX_KEY} bytes, not {0}")]
    Length(usize),
    /// A character that no key has. Keys are plain: chitchat slices them by bytes.
    #[error("a key is made of a-z, 0-9, '.', '_', '-' and '/', and starts with a letter or digit")]
    Character,
    /// `svc/` without the rest of its form.
    #[error("a service key is written svc/<namespace>/<service>/<instance>")]
    Shape,
    /// The namespace or service has a bad name.
    #[error(transparent)]
    Service(#[from] ServiceNameError),
}

impl Key {
    /// Reads a key. Exactly one text stands for each key.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        if !(1..=MAX_KEY).contains(&text.len()) {
            return Err(KeyError::Length(text.len()));
        }
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        if !text.bytes().all(|b| plain(b) || b"._-/".contains(&b)) || !text.bytes().next().is_some_and(plain) {
            return Err(KeyError::Character);
        }
        if text == NODE {
            return Ok(Self::Node);
        }
        let Some(rest) = text.strip_prefix(SERVICE) else {
            return Ok(Self::Other(text.to_owned()));
        };
        let mut parts = rest.split('/');
        let (Some(namespace), Some(name), Some(instance), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(KeyError::Shape);
        };
        let number: u32 = instance.parse().map_err(|_| KeyError::Shape)?;
        if number.to_string() != instance {
            return Err(KeyError::Shape);
        }
        Ok(Self::Service { service: ServiceName::try_new(namespace, name)?, instance: number })
    }

    /// The key of a service instance.
    pub fn service(service: &ServiceName, instance: u32) -> Self {
        Self::Service { service: service.clone(), instance }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node => f.write_str(NODE),
            Self::Service { service, instance } => {
                write!(f, "{SERVICE}{}/{}/{instance}", service.namespace(), service.name())
            }
            Self::Other(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_kind_of_key_survives_its_text() {
        let orders = ServiceName::try_new("shop", "orders").unwrap();
        for (text, key) in [
            ("node", Key::Node),
            ("svc/shop/orders/0", Key::service(&orders, 0)),
            ("svc/shop/orders/4294967295", Key::service(&orders, u32::MAX)),
            ("policy/head", Key::Other("policy/head".into())),
        ] {
            assert_eq!(Key::parse(text), Ok(key.clone()));
            assert_eq!(key.to_string(), text);
        }
    }

    #[test]
    fn the_longest_service_key_fits() {
        let longest = ServiceName::try_new(&"a".repeat(63), &"b".repeat(63)).unwrap();
        let text = Key::service(&longest, u32::MAX).to_string();
        assert!(text.len() <= MAX_KEY);
        assert!(Key::parse(&text).is_ok());
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for (text, error) in [
            ("", KeyError::Length(0)),
            (&*"a".repeat(161), KeyError::Length(161)),
            ("Node", KeyError::Character),
            ("/node", KeyError::Character),
            ("é", KeyError::Character),
            ("a b", KeyError::Character),
            ("svc/shop/orders", KeyError::Shape),
            ("svc/shop/orders/1/2", KeyError::Shape),
            ("svc/shop/orders/01", KeyError::Shape),
            ("svc/shop/orders/x", KeyError::Shape),
            ("svc/shop/orders/4294967296", KeyError::Shape),
            ("svc/-/orders/1", KeyError::Service(ServiceNameError::Label("-".into()))),
        ] {
            assert_eq!(Key::parse(text), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn one_text_stands_for_each_key(text in "(svc/)?[a-z0-9/._-]{0,30}") {
            if let Ok(key) = Key::parse(&text) {
                prop_assert_eq!(key.to_string(), text);
            }
        }

        #[test]
        fn reading_arbitrary_text_never_panics(text in ".{0,200}") {
            let _ = Key::parse(&text);
        }
    }
}
