use std::sync::atomic::{AtomicU64, Ordering};

use hickory_proto::op::ResponseCode;

/// What became of queries: `starling_dns_queries_total{result}`.
#[derive(Debug, Default)]
pub struct DnsCounts([AtomicU64; Asked::ALL.len()]);

/// What became of one query.
#[derive(Debug, Clone, Copy)]
pub(super) enum Asked {
    Answered,
    NoName,
    Rejected,
    Forwarded,
    /// None of the host's own resolvers answered.
    Unanswered,
    /// It came from another host.
    Foreign,
    Overload,
}

impl Asked {
    const ALL: [(Self, &'static str); 7] = [
        (Self::Answered, "answered"),
        (Self::NoName, "no_name"),
        (Self::Rejected, "rejected"),
        (Self::Forwarded, "forwarded"),
        (Self::Unanswered, "unanswered"),
        (Self::Foreign, "foreign"),
        (Self::Overload, "overload"),
    ];

    /// An answer of the zone's own.
    pub(super) const fn of(code: ResponseCode) -> Self {
        match code {
            ResponseCode::NoError => Self::Answered,
            ResponseCode::NXDomain => Self::NoName,
            _ => Self::Rejected,
        }
    }
}

impl DnsCounts {
    pub(super) fn on(&self, what: Asked) {
        if let Some(count) = self.0.get(what as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Publishes the sum of several servers' counts by the macros of `metrics`.
    pub fn publish<'a>(servers: &(impl Iterator<Item = &'a Self> + Clone)) {
        for (what, result) in Asked::ALL {
            let count = servers.clone().filter_map(|counts| counts.0.get(what as usize));
            let sum = count.map(|count| count.load(Ordering::Relaxed)).sum();
            metrics::counter!("starling_dns_queries_total", "result" => result).absolute(sum);
        }
    }
}
