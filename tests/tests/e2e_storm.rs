//! Everything at once.

/// Seconds, unless `TOKENTAP_STORM_SECONDS` says otherwise.
const SECONDS: usize = 60;

#[test]
fn in_a_storm_the_steady_client_is_seen_exactly_and_nothing_is_changed_or_left() {
    let seconds = std::env::var("TOKENTAP_STORM_SECONDS").map_or(SECONDS, |seconds| seconds.parse().unwrap());
    let report = tokentap_tests::storm::run(seconds);
    assert!(report.passed(), "{report}");
}
