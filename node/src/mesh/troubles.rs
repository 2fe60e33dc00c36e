use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Troubles that are kept; above it the one that showed last the longest ago goes.
const MAX: usize = 64;
/// What has not shown for so long is over.
const OVER_AFTER: Duration = Duration::from_mins(10);

/// What kind of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TroubleKind {
    /// Two nodes have one name.
    NameTaken,
    /// Two nodes run with one key.
    KeyInUse,
    /// The mesh has as many members as it may.
    MemberLimit,
    /// A seed did not admit this node.
    Seed,
    /// The clock or the disk went back.
    Generation,
    /// A join was refused for another reason.
    Join,
    /// A member sends what no honest one does.
    Offender,
}

/// Something that an operator should see to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What kind.
    pub kind: TroubleKind,
    /// In words, as it showed last.
    pub text: String,
    /// How often it showed.
    pub count: u64,
    /// When it showed last.
    pub last: Instant,
}

/// What showed lately that an operator should see to: peers can neither make it grow without bound nor keep it for ever.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    known: Mutex<BTreeMap<(TroubleKind, String), Trouble>>,
}

impl Troubles {
    /// It showed, and is about `subject`.
    pub(super) fn on_trouble(&self, kind: TroubleKind, subject: &str, text: String, now: Instant) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (kind, subject.to_owned());
        let count = known.get(&key).map_or(0, |trouble| trouble.count) + 1;
        known.insert(key, Trouble { kind, text, count, last: now });
        if known.len() > MAX
            && let Some(oldest) = known.iter().min_by_key(|(_, trouble)| trouble.last).map(|(key, _)| key.clone())
        {
            known.remove(&oldest);
        }
    }

    /// What was about `subject` is over.
    pub(super) fn on_over(&self, kind: TroubleKind, subject: &str) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(&(kind, subject.to_owned()));
    }

    /// All that is not over.
    pub(super) fn current(&self, now: Instant) -> Vec<Trouble> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, trouble| now.saturating_duration_since(trouble.last) < OVER_AFTER);
        known.values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_is_counted_by_what_it_is_about_and_passes() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let troubles = Troubles::default();
        troubles.on_trouble(TroubleKind::NameTaken, "b", "b is taken".to_owned(), start);
        troubles.on_trouble(TroubleKind::NameTaken, "b", "b is taken again".to_owned(), after(5));
        troubles.on_trouble(TroubleKind::Seed, "10.0.0.1:1", "refused".to_owned(), after(300));
        let current = troubles.current(after(300));
        assert_eq!(current.len(), 2);
        assert_eq!((current[0].text.as_str(), current[0].count), ("b is taken again", 2));
        assert_eq!(troubles.current(after(605)).len(), 1);
        troubles.on_over(TroubleKind::Seed, "10.0.0.1:1");
        assert_eq!(troubles.current(after(606)), []);
    }

    #[test]
    fn however_many_a_peer_makes_the_number_kept_is_bounded() {
        let start = Instant::now();
        let troubles = Troubles::default();
        for n in 0..200 {
            troubles.on_trouble(TroubleKind::Join, &n.to_string(), String::new(), start + Duration::from_millis(n));
        }
        assert_eq!(troubles.current(start).len(), MAX);
    }
}
