use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use starling_proto::{ServiceName, ServiceNameError};

/// Names that are remembered, at most.
const KNOWN_MAX: usize = 1_024;

/// Service names as they travel, read once and remembered: each stream carries two, and they are mostly the same.
#[derive(Debug, Default)]
pub(crate) struct Names(Mutex<HashMap<Box<str>, ServiceName>>);

impl Names {
    /// Reads `ns/<namespace>/svc/<name>`.
    ///
    /// # Errors
    /// If it has another form.
    pub(crate) fn read(&self, path: &str) -> Result<ServiceName, ServiceNameError> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = known.get(path) {
            return Ok(name.clone());
        }
        let name = ServiceName::from_path(path)?;
        // Whoever names many makes nothing grow.
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(path.into(), name.clone());
        Ok(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_the_same_each_time_and_a_bad_one_never() {
        let names = Names::default();
        for _ in 0..2 {
            assert_eq!(names.read("ns/shop/svc/orders"), Ok("orders.shop".parse().unwrap()));
            assert!(names.read("ns/shop/svc/No").is_err());
        }
    }

    #[test]
    fn names_without_end_do_not_fill_the_memory() {
        let names = Names::default();
        for n in 0..3 * KNOWN_MAX {
            names.read(&format!("ns/a/svc/s{n}")).unwrap();
        }
        assert!(names.0.lock().unwrap().len() <= KNOWN_MAX);
    }
}
