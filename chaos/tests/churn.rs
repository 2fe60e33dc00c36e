//! Requests over random churn. The million is played by `starling-chaos churn`; here it is enough to meet every kind of end.

use starling_chaos::churn::{self, ChurnPlan};

#[test]
fn no_request_gets_anothers_answer_and_nothing_leaks_whatever_is_cut() {
    let report = churn::play(&ChurnPlan { requests: 20_000, seed: 1, connections: 32 });
    assert!(report.is_good(), "{report}");
    assert!(report.answered > report.asked / 2, "{report}");
    assert!(report.cut > 0 && report.broken > 0 && !report.refused.is_empty(), "{report}");
}
