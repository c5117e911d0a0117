//! What flags and environment come to.

use clap::Parser as _;
use tokentap_export::config::{Compression, OtlpConfig, Protocol};
use tokentap_genai::Rule;

use super::*;

/// The configuration of a command line after `tokentap`, with variables, on a terminal or not.
fn resolved(line: &str, vars: &[(&str, &str)], terminal: bool) -> Result<Config, ConfigError> {
    let words = std::iter::once("tokentap").chain(line.split_ascii_whitespace());
    let cli = Cli::try_parse_from(words).unwrap_or_else(|e| panic!("{line}: {e}"));
    let lookup = |name: &str| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
    Config::resolve(cli, &lookup, terminal)
}

fn export(line: &str, vars: &[(&str, &str)]) -> ExportConfig {
    match resolved(line, vars, false).unwrap().action {
        Action::Run(RunConfig { export, .. }) | Action::Replay(ReplayConfig { export, .. }) => export,
        Action::Record(_) => ExportConfig::default(),
    }
}

fn warnings(line: &str, vars: &[(&str, &str)]) -> Vec<String> {
    resolved(line, vars, false).unwrap().warnings
}

/// The names of the exporters of spans and events.
#[track_caller]
fn check(flags: &str, vars: &[(&str, &str)], want: &[&str]) {
    let config = export(&format!("run --all {flags}"), vars);
    let others = config.exporters.iter().filter(|exporter| !has_metrics(exporter));
    assert_eq!(others.map(ExporterConfig::name).collect::<Vec<_>>(), want);
}

fn has_metrics(exporter: &ExporterConfig) -> bool {
    matches!(exporter, ExporterConfig::Otlp(otlp) if otlp.signal == Signal::Metrics)
}

/// The names of the exporters of metrics.
#[track_caller]
fn check_metrics(flags: &str, vars: &[(&str, &str)], want: &[&str]) {
    let config = export(&format!("run --all {flags}"), vars);
    let metrics = config.exporters.iter().filter(|exporter| has_metrics(exporter));
    assert_eq!(metrics.map(ExporterConfig::name).collect::<Vec<_>>(), want);
}

fn the_otlp(flags: &str, vars: &[(&str, &str)]) -> OtlpConfig {
    match &export(&format!("run --all {flags}"), vars).exporters[0] {
        ExporterConfig::Otlp(otlp) => (**otlp).clone(),
        other => panic!("{other}"),
    }
}

/// What a wrong command line is told.
fn refused(line: &str) -> String {
    let words = std::iter::once("tokentap").chain(line.split_ascii_whitespace());
    let error = Cli::try_parse_from(words).expect_err(line);
    assert_eq!(error.exit_code(), 2);
    error.to_string()
}

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
const PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";
const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";

#[test]
fn the_protocol_is_stated_or_follows_from_the_port() {
    check("--otlp-endpoint http://c:4317", &[], &["otlp/grpc http://c:4317/"]);
    check("--otlp-endpoint http://c:4318", &[], &["otlp/http/protobuf http://c:4318/v1/traces"]);
    check("--otlp-endpoint http://c:9 --otlp-protocol grpc", &[], &["otlp/grpc http://c:9/"]);
    check("--otlp-endpoint http://c:9", &[(PROTOCOL, "grpc")], &["otlp/grpc http://c:9/"]);
    check(
        "--otlp-endpoint http://c:9",
        &[(PROTOCOL, "grpc"), ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf")],
        &["otlp/http/protobuf http://c:9/v1/traces"],
    );
    check(
        "--otlp-endpoint http://a:1 --otlp-protocol grpc \
         --otlp-endpoint http://b:2 --otlp-protocol http/protobuf",
        &[],
        &["otlp/grpc http://a:1/", "otlp/http/protobuf http://b:2/v1/traces"],
    );
    let unequal =
        resolved("run --all --otlp-endpoint http://a --otlp-protocol grpc --otlp-protocol grpc", &[], false);
    assert!(matches!(unequal, Err(ConfigError::Protocols { protocols: 2, endpoints: 1 })));
}

#[test]
fn flags_win_over_signal_variables_over_general_ones() {
    let vars = [(TRACES_ENDPOINT, "http://traces:4318/own/path"), (ENDPOINT, "http://all:4318/base/")];
    check(
        "--otlp-endpoint http://flag:4318/base/",
        &vars,
        &["otlp/http/protobuf http://flag:4318/base/v1/traces"],
    );
    check("", &vars, &["otlp/http/protobuf http://traces:4318/own/path"]);
    check("", &vars[1..], &["otlp/http/protobuf http://all:4318/base/v1/traces"]);
    // Empty is unset.
    check("", &[(TRACES_ENDPOINT, " "), vars[1]], &["otlp/http/protobuf http://all:4318/base/v1/traces"]);
    check("", &[(TRACES_ENDPOINT, "http://c")], &["otlp/http/protobuf http://c/"]);
}

#[test]
fn endpoints_without_a_scheme() {
    let insecure = ("OTEL_EXPORTER_OTLP_INSECURE", "TRUE");
    check("--otlp-endpoint localhost:4317", &[], &["otlp/grpc http://localhost:4317/"]);
    check("--otlp-endpoint [::1]:4317", &[], &["otlp/grpc http://[::1]:4317/"]);
    check("--otlp-endpoint c:4317", &[], &["otlp/grpc https://c:4317/"]);
    check("--otlp-endpoint c:4317", &[insecure], &["otlp/grpc http://c:4317/"]);
    check("--otlp-endpoint 127.0.0.1:4317", &[(insecure.0, "false")], &["otlp/grpc https://127.0.0.1:4317/"]);
}

#[test]
fn bad_endpoints_say_what_is_wrong_and_where() {
    for (url, why) in [
        ("ftp://c:4317", "unknown scheme 'ftp'"),
        ("http://", "not a URL"),
        ("http://:4317", "no host"),
        ("http://c:99999", "not a port"),
        ("http://c:0", "not a port"),
        ("http://c:port", "not a"),
        ("http://user:pass@c:4317", "credentials"),
        ("unix://run/otel.sock", "unknown scheme 'unix'"),
    ] {
        let said = resolved("run --all", &[(ENDPOINT, url)], false).unwrap_err().to_string();
        assert!(said.starts_with("OTEL_EXPORTER_OTLP_ENDPOINT: ") && said.contains(why), "{url}: {said}");
        assert!(!said.contains("pass@"), "{said}");
    }
}

#[test]
fn destinations_add_up() {
    let list = "OTEL_TRACES_EXPORTER";
    check("--console", &[(ENDPOINT, "http://c:4317")], &["otlp/grpc http://c:4317/", "console/pretty"]);
    check("--console=json", &[], &["console/json"]);
    check("", &[(list, "otlp")], &["otlp/http/protobuf http://localhost:4318/v1/traces"]);
    check(
        "",
        &[(list, "otlp, console"), (PROTOCOL, "grpc")],
        &["otlp/grpc http://localhost:4317/", "console/pretty"],
    );
    check("", &[(list, "console"), (ENDPOINT, "http://c:4317")], &["console/pretty"]);
    check("--otlp-endpoint http://c:4317", &[(list, "none")], &["otlp/grpc http://c:4317/"]);
    check("", &[(list, "none"), (ENDPOINT, "http://c:4317")], &[]);
    check("", &[(list, "zipkin"), (ENDPOINT, "http://c:4317")], &["otlp/grpc http://c:4317/"]);
}

#[test]
fn without_a_destination_a_terminal_is_one() {
    let config = resolved("run --all", &[], true).unwrap();
    let Action::Run(RunConfig { export, .. }) = config.action else { panic!("{config:?}") };
    let console = &export.exporters[..];
    assert!(matches!(console, [ExporterConfig::Console { format: ConsoleFormat::Pretty, color: true }]));
    let said = resolved("run --all", &[], false).unwrap_err().to_string();
    assert!(
        said.contains("--otlp-endpoint") && said.contains("--console") && said.contains(ENDPOINT),
        "{said}"
    );
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let color = |vars: &[(&str, &str)], terminal| {
        let Action::Run(RunConfig { export, .. }) =
            resolved("run --all --console", vars, terminal).unwrap().action
        else {
            panic!("not a run")
        };
        matches!(export.exporters[..], [ExporterConfig::Console { color: true, .. }])
    };
    assert!(color(&[], true));
    assert!(!color(&[], false));
    assert!(!color(&[("NO_COLOR", "1")], true));
    assert!(!color(&[("TERM", "dumb")], true));
}

#[test]
fn headers_of_flags_replace_those_of_variables_by_name() {
    let header = |otlp: &OtlpConfig| -> Vec<(String, String)> {
        let text = |value: &http::HeaderValue| value.to_str().unwrap().to_owned();
        otlp.headers.iter().map(|h| (h.name.to_string(), text(&h.value))).collect()
    };
    let vars = [(ENDPOINT, "http://c:4317"), (HEADERS, "Authorization=Bearer%20a%2Cb, x-tenant = t ,")];
    let own = |k: &str, v: &str| (k.to_owned(), v.to_owned());
    assert_eq!(header(&the_otlp("", &vars)), [own("authorization", "Bearer a,b"), own("x-tenant", "t")]);
    // A flag is literal: nothing in it is decoded.
    assert_eq!(
        header(&the_otlp("--otlp-header authorization=%20x=y", &vars)),
        [own("x-tenant", "t"), own("authorization", "%20x=y")]
    );
    let signal = ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "only=this");
    assert_eq!(header(&the_otlp("", &[vars[0], vars[1], signal])), [own("only", "this")]);
}

#[test]
fn headers_that_cannot_be_used_are_named_without_being_shown() {
    let vars = [(ENDPOINT, "http://c:4317"), (HEADERS, "a=1,s3cret,b=%FFs3cret,c=x%0As3cret,:s3cret=x,d=4")];
    let said = warnings("run --all", &vars);
    assert_eq!(said.len(), 4, "{said:?}");
    assert!(
        said.iter().all(|line| line.starts_with("ignoring OTEL_EXPORTER_OTLP_HEADERS: member ")),
        "{said:?}"
    );
    assert!(!said.concat().contains("s3cret"), "{said:?}");
    let kept: Vec<_> = the_otlp("", &vars).headers.iter().map(|h| h.name.to_string()).collect();
    assert_eq!(kept, ["a", "d"]);
}

#[test]
fn secrets_are_masked_wherever_settings_are_shown() {
    let vars = [(ENDPOINT, "http://c:4317"), (HEADERS, "authorization=s3cret")];
    let config = resolved("run --all --otlp-header x-api-key=s3cret", &vars, false).unwrap();
    let otlp = the_otlp("", &vars);
    let shown = format!("{config:?} {otlp:?} {otlp}");
    assert!(shown.contains("authorization=****") && !shown.contains("s3cret"), "{shown}");
}

#[test]
fn numbers_and_enums_that_cannot_be_used_are_ignored_with_a_warning() {
    let vars = [
        (ENDPOINT, "http://c:4317"),
        ("OTEL_BSP_SCHEDULE_DELAY", "soon"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "-1"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "lz4"),
        (PROTOCOL, "http/xml"),
        ("OTEL_LOG_LEVEL", "loud"),
    ];
    let said = warnings("run --all", &vars);
    assert_eq!(said.len(), 6, "{said:?}");
    assert_eq!(export("run --all", &vars).batch, BatchConfig::default());
    let otlp = the_otlp("", &vars);
    assert_eq!(otlp, OtlpConfig::new(Signal::Traces, Protocol::Grpc, "http://c:4317".parse().unwrap()));
}

#[test]
fn batches_and_time_limits_follow_the_variables() {
    let vars = [
        (ENDPOINT, "http://c:4317"),
        ("OTEL_BSP_SCHEDULE_DELAY", "5000"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "100"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "200"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "7000"),
        ("OTEL_BSP_EXPORT_TIMEOUT", "3000"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
    ];
    let batch = export("run --all", &vars).batch;
    assert_eq!(batch.schedule_delay, Duration::from_secs(5));
    // A batch cannot be larger than the queue that it comes from.
    assert_eq!((batch.max_queue_size, batch.max_export_batch_size), (100, 100));
    let otlp = the_otlp("", &vars);
    assert_eq!((otlp.timeout, otlp.compression), (Duration::from_secs(3), Compression::Gzip));
}

#[test]
fn certificates_come_in_pairs() {
    let half = [(ENDPOINT, "https://c:4317"), ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "key.pem")];
    assert!(matches!(resolved("run --all", &half, false), Err(ConfigError::HalfClientCertificate)));
    let whole = [
        half[0],
        half[1],
        ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE", "cert.pem"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "ca.pem"),
        // Of metrics there is half a pair.
        ("OTEL_METRICS_EXPORTER", "none"),
    ];
    let tls = the_otlp("", &whole).tls;
    assert_eq!(tls.client, Some(("cert.pem".into(), "key.pem".into())));
    assert_eq!(tls.authorities, Some("ca.pem".into()));
}

#[test]
fn the_kill_switch_needs_nothing_else() {
    let config = resolved("run --all", &[("OTEL_SDK_DISABLED", "True")], false).unwrap();
    assert!(config.disabled);
    assert!(!resolved("run --all --console", &[("OTEL_SDK_DISABLED", "1")], false).unwrap().disabled);
}

#[test]
fn processes_and_calls_reach_the_configuration() {
    let line = "run --pid 7 --pid 8 --exe python* --no-follow --ring-size 64K --service-name shop \
                --drain-timeout 5s --host-exclude *.Internal --path-include /v9/chat \
                --stale-after 90s --host-include openai-chat=llm.corp --console --log-level debug";
    let config = resolved(line, &[("OTEL_LOG_LEVEL", "error")], false).unwrap();
    assert_eq!(config.log_level, LevelFilter::DEBUG);
    let Action::Run(RunConfig { select, calls, stale_after, drain_timeout, .. }) = config.action else {
        panic!("{config:?}")
    };
    assert_eq!(stale_after, Duration::from_secs(90));
    assert_eq!((&*select.pids, select.all, select.follow), (&[7, 8][..], false, false));
    assert!(select.exes[0].matches_file("/usr/bin/python3"));
    assert_eq!((select.ring_size.bytes(), select.service_name.as_deref()), (65536, Some("shop")));
    assert_eq!(drain_timeout, Duration::from_secs(5));
    assert_eq!(calls.exclude, [Rule { host: "*.internal".into(), path: String::new() }]);
    let path = Include { rule: Rule { host: String::new(), path: "/v9/chat".into() }, api: None };
    assert_eq!(calls.include, ["openai-chat=llm.corp".parse().unwrap(), path]);
}

#[test]
fn records_and_replays() {
    let config = resolved("record --out x.tape --pid 7", &[], false).unwrap();
    assert!(matches!(config.action, Action::Record(RecordConfig { with_content: false, .. })), "{config:?}");
    let config = resolved("replay x.tape --console=json --log-level off", &[], false).unwrap();
    assert!(matches!(config.action, Action::Replay(_)), "{config:?}");
}

#[test]
fn wrong_usage_names_the_mend() {
    for (line, mend) in [
        ("run", "--pid"),
        ("run --no-follow", "--exe"),
        ("run --pid 0", "1..=4194304"),
        ("run --pid self", "invalid digit"),
        ("run --pid 7 --all", "cannot be used with"),
        ("run --all --ring-size 10M", "use 8MiB or 16MiB"),
        ("run --all --otlp-protocol http/xml", "use grpc, http/protobuf or http/json"),
        ("run --all --otlp-header nope", "write it as name=value"),
        ("run --all --console=xml", "use pretty or json"),
        ("run --all --drain-timeout 20", "20s"),
        ("run --all --log-level loud", "log-level"),
        ("run --all --host-include nobody=llm.corp", "openai-chat"),
        ("run --all --host-exclude https://llm.corp", "leave out the scheme"),
        ("run --all --path-include v1/chat", "write it as /v1/chat"),
        ("record --pid 7", "--out"),
        ("replay", "<TAPE>"),
        ("frobnicate", "frobnicate"),
    ] {
        let said = refused(line);
        assert!(said.contains(mend), "{line}: {said}");
    }
}

#[test]
fn help_teaches_by_example() {
    let help = |words: &[&str]| Cli::try_parse_from(words).unwrap_err().to_string();
    assert!(help(&["tokentap", "--help"]).contains("sudo tokentap run --pid"));
    assert!(help(&["tokentap", "run", "--help"]).contains("OTEL_BSP_SCHEDULE_DELAY"));
}

#[test]
fn a_proxy_is_named_by_the_usual_variables() {
    let vars = [
        ("HTTPS_PROXY", "http://user:secret@proxy:3128"),
        ("http_proxy", "other:8080"),
        ("NO_PROXY", "inside.example,127.0.0.1"),
    ];
    let proxy = |url: &str| {
        let config = the_otlp(&format!("--otlp-endpoint {url}"), &vars);
        assert!(!format!("{config} {config:?}").contains("secret"), "{config:?}");
        config.proxy.map(|proxy| (proxy.uri.to_string(), proxy.authorization.is_some()))
    };
    assert_eq!(proxy("https://c:4317"), Some(("http://proxy:3128/".into(), true)));
    assert_eq!(proxy("http://c:4317"), Some(("http://other:8080/".into(), false)));
    assert_eq!(proxy("https://a.inside.example:4317"), None);
    assert_eq!(proxy("http://127.0.0.1:4318"), None);
}

#[test]
fn metrics_go_where_spans_go_unless_they_have_a_place_of_their_own_or_none() {
    let metrics_endpoint = ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://m:4318/v1/metrics");
    let off = ("OTEL_METRICS_EXPORTER", "none");
    check_metrics("--otlp-endpoint http://c:4317", &[], &["otlp/grpc metrics http://c:4317/"]);
    check_metrics(
        "",
        &[(ENDPOINT, "http://c:4318")],
        &["otlp/http/protobuf metrics http://c:4318/v1/metrics"],
    );
    check_metrics(
        "",
        &[(ENDPOINT, "http://c:4318"), metrics_endpoint],
        &["otlp/http/protobuf metrics http://m:4318/v1/metrics"],
    );
    check_metrics("", &[(TRACES_ENDPOINT, "http://t:4318/v1/traces")], &[]);
    check_metrics("--otlp-endpoint http://c:4317", &[off], &[]);
    check_metrics("--console", &[], &[]);
    let config = export(
        "run --all --console --semconv-metrics old --metric-interval 3s",
        &[
            ("OTEL_METRIC_EXPORT_INTERVAL", "60000"),
            ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "Delta"),
            ("OTEL_METRICS_EXEMPLAR_FILTER", "always_off"),
        ],
    )
    .metrics;
    assert_eq!(config.interval, Duration::from_secs(3));
    let by_env = export("run --all --console", &[("OTEL_METRIC_EXPORT_INTERVAL", "60000")]).metrics;
    assert_eq!(by_env.interval, Duration::from_secs(60));
    let shown = [config.temporality.to_string(), config.semconv.to_string(), config.exemplars.to_string()];
    assert_eq!(shown, ["delta", "old", "always_off"]);
}

#[test]
fn the_sampler_is_named_by_flags_or_variables() {
    use tokentap_export::config::Sampler;
    let sampler = |flags: &str, vars: &[(&str, &str)]| {
        export(&format!("run --all --console {flags}"), vars).sampling.sampler
    };
    let (name, argument) = ("OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG");
    assert_eq!(sampler("", &[]), Sampler::ParentBasedAlwaysOn);
    assert_eq!(sampler("", &[(name, "traceidratio"), (argument, "0.25")]), Sampler::TraceIdRatio(0.25));
    assert_eq!(
        sampler(
            "--sampler parentbased_traceidratio --sampler-arg 0.5",
            &[(name, "always_off"), (argument, "0.1")]
        ),
        Sampler::ParentBasedTraceIdRatio(0.5)
    );
    let warned = warnings("run --all --console", &[(name, "jaeger_remote"), (argument, "2")]);
    assert_eq!(warned.len(), 2, "{warned:?}");
    for (flags, part) in [("--sampler sometimes", "parentbased_"), ("--sampler-arg 7", "0 to 1")] {
        let said = resolved(&format!("run --all --console {flags}"), &[], false).unwrap_err().to_string();
        assert!(said.starts_with("--sampler") && said.contains(part), "{said}");
    }
    let rules = export("run --all --console --keep-errors --sampling-rule ratio=0.1,provider=openai", &[]);
    assert!(rules.sampling.keep_errors && rules.sampling.rules.len() == 1);
    assert!(refused("run --all --console --sampling-rule provider=openai").contains("ratio=0.1"));
}

#[test]
fn contexts_and_the_header_that_forces_a_trace() {
    let calls = |flags: &str, vars: &[(&str, &str)]| match resolved(
        &format!("run --all --console {flags}"),
        vars,
        false,
    )
    .unwrap()
    .action
    {
        Action::Run(run) => run.calls,
        other => panic!("{other:?}"),
    };
    let propagators = ("OTEL_PROPAGATORS", "tracecontext, baggage,b3multi,b3multi,xray");
    assert_eq!(calls("", &[]).propagators, []);
    assert_eq!(calls("", &[propagators]).propagators, [Propagator::TraceContext, Propagator::B3Multi]);
    assert_eq!(
        calls("--propagators jaeger,b3", &[propagators]).propagators,
        [Propagator::Jaeger, Propagator::B3]
    );
    assert_eq!(calls("", &[]).force_header.as_deref(), Some("x-force-trace"));
    assert_eq!(calls("--force-header X-Keep", &[]).force_header.as_deref(), Some("x-keep"));
    assert_eq!(calls("--force-header none", &[]).force_header, None);
}

#[test]
fn a_file_is_a_destination_by_itself() {
    check("--file /var/log/llm.jsonl", &[], &["file /var/log/llm.jsonl"]);
    check("--file /a --console=json", &[], &["console/json", "file /a"]);
}

#[test]
fn a_unix_socket_is_an_endpoint() {
    check("--otlp-endpoint unix:///run/otel.sock", &[], &["otlp/http/protobuf unix:///run/otel.sock"]);
    check(
        "--otlp-endpoint unix:/run/otel.sock --otlp-protocol grpc",
        &[("HTTP_PROXY", "http://proxy:1")],
        &["otlp/grpc unix:///run/otel.sock"],
    );
    let otlp = the_otlp("--otlp-endpoint unix:///run/otel.sock", &[]);
    assert_eq!(otlp.socket.as_deref(), Some("/run/otel.sock".as_ref()));
    assert_eq!(otlp.endpoint.to_string(), "http://localhost/v1/traces");
}
