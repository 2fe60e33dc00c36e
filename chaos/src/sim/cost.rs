use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// What this process used so far, by Linux's own account.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cost {
    cpu: Duration,
}

impl Cost {
    /// `None` where `/proc` does not tell.
    pub(super) fn now() -> Option<Self> {
        let text = fs::read_to_string("/proc/self/schedstat").ok()?;
        let nanos = text.split_whitespace().next()?.parse().ok()?;
        Some(Self { cpu: Duration::from_nanos(nanos) })
    }

    /// CPU of a node, in percent of a core, over a span of virtual time; and memory of a node.
    pub(super) fn since(before: Option<Self>, nodes: usize, span: Duration) -> BTreeMap<String, f64> {
        let mut cost = BTreeMap::new();
        if let (Some(before), Some(now)) = (before, Self::now())
            && !span.is_zero()
        {
            let share = now.cpu.saturating_sub(before.cpu).as_secs_f64() / span.as_secs_f64() / nodes as f64;
            cost.insert("cost.cpu_percent_of_a_core".to_owned(), share * 100.0);
        }
        if let Some(resident) = resident() {
            cost.insert("cost.mib_a_node".to_owned(), resident / 1024.0 / nodes as f64);
        }
        cost
    }
}

/// In KiB.
fn resident() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}
