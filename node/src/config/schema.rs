//! Every key there is. What stands in no list here is an error, so the lists are also what hints are made from.

/// One section.
pub(super) struct Section {
    pub(super) name: &'static str,
    /// `[[name]]`: any number of them.
    pub(super) repeated: bool,
    pub(super) keys: &'static [&'static str],
    /// Keys of the design that this version does not act on yet: refused, since silence would mislead.
    pub(super) later: &'static [&'static str],
}

const fn one(name: &'static str, keys: &'static [&'static str]) -> Section {
    Section { name, repeated: false, keys, later: &[] }
}

pub(super) const SECTIONS: &[Section] = &[
    one("node", &["name", "zone", "data_dir", "shards"]),
    one("mesh", &["advertise", "bind", "gossip_port", "quic_port", "carrier", "seeds"]),
    one("identity", &["dir"]),
    one("admin", &["socket", "listen"]),
    one("dns", &["listen", "suffix", "vip_range"]),
    one("proxy", &["http", "socks5"]),
    Section {
        name: "service",
        repeated: true,
        keys: &["name", "address", "protocol", "port", "labels", "user", "cgroup"],
        later: &["health"],
    },
    Section { name: "listener", repeated: true, keys: &["address", "service", "protocol", "source"], later: &[] },
    Section {
        name: "ingress",
        repeated: true,
        keys: &["address", "tls", "route", "service", "trusted", "source"],
        later: &[],
    },
    Section { name: "ingress.tls", repeated: true, keys: &["cert", "key"], later: &[] },
    Section { name: "ingress.route", repeated: true, keys: &["host", "path", "service"], later: &[] },
    Section { name: "egress", repeated: true, keys: &["name", "address", "tls", "ca", "protocol", "port"], later: &[] },
    one("capture", &["listen", "unknown"]),
    Section { name: "capture.namespace", repeated: true, keys: &["path", "source"], later: &[] },
    one("log", &["level", "access"]),
    one("telemetry", &["otlp", "sampling"]),
    one(
        "limits",
        &[
            "header_bytes",
            "header_fields",
            "header_timeout",
            "body_timeout",
            "send_timeout",
            "idle_timeout",
            "streams",
            "flows",
            "flow_timeout",
        ],
    ),
    one("defaults", &["timeout", "try_timeout", "connect_timeout", "drain_timeout"]),
];

pub(super) fn section(name: &str) -> Option<&'static Section> {
    SECTIONS.iter().find(|section| section.name == name)
}

/// The word of `known` that someone who wrote `word` may have meant: at most a third of it differs.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// How many letters have to be put in, left out, replaced or swapped with their neighbour to make `b` of `a`
/// (optimal string alignment). Quadratic; keys are short and what is longer than 64 is not compared.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len() > 64 || b.len() > 64 {
        return usize::MAX;
    }
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let best = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                let swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                if swapped { best.min(rows[i - 2][j - 2] + 1) } else { best }
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_one_that_differs_little() {
        let known = ["name", "zone", "data_dir", "shards"];
        for (word, expected) in
            [("nmae", Some("name")), ("datadir", Some("data_dir")), ("shard", Some("shards")), ("colour", None)]
        {
            assert_eq!(nearest(word, known), expected, "{word}");
        }
    }
}
