//! Pages that are made of the program itself: the reference of everything that it exports, its manual page, and completions
//! for shells. `cargo xtask reference` and `cargo xtask dist` run it.

use std::{collections::HashMap, fmt::Write as _, fs, path::PathBuf};

use clap::{CommandFactory as _, Parser};
use clap_complete::{Shell, generate_to};
use tokentap::{
    cli::Cli,
    targets::attributes,
    telemetry::{ByReason, Event, Metric},
};
use tokentap_abi::Counter;
use tokentap_export::Loss;
use tokentap_genai::{Api, IncompleteReason, semconv};
use tokentap_wire::Reason;

/// What to make.
#[derive(Parser)]
enum Page {
    /// Print the reference of attributes, counters and reasons
    Reference,
    /// Write manual pages and completions into a folder
    Dist {
        /// The folder
        folder: PathBuf,
    },
}

fn main() -> std::io::Result<()> {
    match Page::parse() {
        Page::Reference => print(&reference()),
        Page::Dist { folder } => dist(folder),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "as the other page")]
#[expect(clippy::print_stdout, reason = "the page goes to standard output")]
fn print(page: &str) -> std::io::Result<()> {
    print!("{page}");
    Ok(())
}

fn dist(folder: PathBuf) -> std::io::Result<()> {
    let (pages, completions) = (folder.join("man"), folder.join("completions"));
    fs::create_dir_all(&pages)?;
    fs::create_dir_all(&completions)?;
    clap_mangen::generate_to(Cli::command(), &pages)?;
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        generate_to(shell, &mut Cli::command(), "tokentap", &completions)?;
    }
    Ok(())
}

/// What is said of a name in the conventions: its type.
fn conventional() -> HashMap<&'static str, &'static str> {
    let table = include_str!("../conventions.tsv");
    table
        .lines()
        .filter_map(|line| match line.split('\t').collect::<Vec<_>>()[..] {
            ["attribute", name, kind, ..] => Some((name, kind)),
            _ => None,
        })
        .collect()
}

fn reference() -> String {
    let types = conventional();
    let of = |name: &str| types.get(name).copied().unwrap_or("own");
    let mut page = String::from(
        "# Reference\n\n\
         Made by `cargo xtask reference` of the tables in the code. A type is that of OpenTelemetry's conventions; `own` is \
         tokentap's.\n\n\
         ## APIs\n\nA path may have any prefix. `{…}` is one segment of it, or the start of one. Where two APIs have a path, the bodies decide.\n\n\
         | API | request | operation | known by | response | content | provider where nothing tells another one |\n|---|---|---|---|---|---|---|\n",
    );
    for api in Api::all() {
        for route in api.routes() {
            let request = code(&format!("{} …{}", route.method, route.path));
            let provider = if api.provider().is_empty() { "" } else { &code(api.provider()) };
            row(
                &mut page,
                &[
                    &code(api.name()),
                    &request,
                    &code(route.operation),
                    route.recognized_by,
                    route.response,
                    if api.captures_content() { "yes" } else { "" },
                    provider,
                ],
            );
        }
    }
    page.push_str(
        "| `mcp` | `POST` to any path, with `Mcp-Method`, `Mcp-Session-Id`, `MCP-Protocol-Version` or `Accept: application/json, text/event-stream` | `execute_tool` for calls of tools | header field and bodies | document or events | yes | |\n\n\
         ## Span attributes\n\n| attribute | type | what it is |\n|---|---|---|\n",
    );
    for (name, what) in semconv::documented() {
        row(&mut page, &[&code(name), of(name), &what]);
    }
    page.push_str("\n## Resource attributes\n\nOf the observed process; those of its own `OTEL_RESOURCE_ATTRIBUTES` come first.\n\n| attribute | type | what it is |\n|---|---|---|\n");
    for (name, what) in attributes::DOCUMENTED {
        row(&mut page, &[&code(name), of(name), what]);
    }
    page.push_str("\n## Metrics\n\nOf observed processes, on their Resources. Names, units and buckets are the conventions'; scopes of one name have one schema.\n\n| metric | form | unit | scope | what it is |\n|---|---|---|---|---|\n");
    for metric in tokentap_export::documented_metrics() {
        row(
            &mut page,
            &[&code(metric.name), metric.form, metric.unit, &code(metric.scope), metric.description],
        );
    }
    page.push_str(
        "\n## Counters\n\nOf the agent itself, in its last log lines, and for Prometheus under `/metrics` of `--admin-address`. A loss above zero makes the exit status 3.\n\n\
         | name | labels | unit | loss |\n|---|---|---|---|\n",
    );
    let metrics = Counter::ALL.into_iter().map(Metric::of_kernel).chain(Event::ALL.map(Event::metric));
    let by_reason = [ByReason::PassedOverBytes, ByReason::IncompleteCalls].map(ByReason::metric);
    let mut metrics: Vec<Metric> = metrics.chain(tokentap::telemetry::OTHERS).chain(by_reason).collect();
    metrics.extend(tokentap::telemetry::STATES);
    metrics.sort_by_key(|metric| (metric.name, metric.labels));
    for metric in metrics {
        let fixed = metric.labels.iter().map(|(key, value)| format!("{key}={value}"));
        let open = match metric.name {
            "tokentap.spans.exported"
            | "tokentap.log_records.exported"
            | "tokentap.metric_points.exported" => &["exporter"][..],
            "tokentap.spans.lost" | "tokentap.log_records.lost" | "tokentap.metric_points.lost" => {
                &["exporter", "reason"]
            }
            "tokentap.spans.waiting" | "tokentap.exporter.since_delivery" => &["exporter"],
            "tokentap.build.info" => &["version"],
            "tokentap.bytes.passed_over" | "tokentap.calls.incomplete" => &["reason"],
            _ => &[],
        };
        let labels: Vec<String> = fixed.chain(open.iter().map(|key| format!("{key}=…"))).collect();
        let loss = if metric.is_loss { "yes" } else { "" };
        row(&mut page, &[&code(metric.name), &labels.join(" "), metric.unit, loss]);
    }
    page.push_str("\n## Reasons\n\nOf `tokentap.spans.lost`, `tokentap.log_records.lost` and `tokentap.metric_points.lost`:\n\n| reason | meaning |\n|---|---|\n");
    for (loss, name) in Loss::ALL {
        row(&mut page, &[&code(name), loss.sentence()]);
    }
    page.push_str("\nOf `tokentap.calls.incomplete`, and the value of `tokentap.incomplete.reason` on spans:\n\n| reason | meaning |\n|---|---|\n");
    for (name, meaning) in IncompleteReason::DOCUMENTED {
        row(&mut page, &[&code(name), meaning]);
    }
    page.push_str("\nOf `tokentap.bytes.passed_over`, and behind `malformed:` and `undecodable:` on spans, there as a sentence:\n\n| reason | sentence |\n|---|---|\n");
    for reason in Reason::ALL {
        row(&mut page, &[&code(reason.name()), reason.sentence()]);
    }
    page
}

fn code(name: &str) -> String {
    format!("`{name}`")
}

fn row(page: &mut String, cells: &[&str]) {
    // Writing to a string does not fail.
    let _written = writeln!(page, "| {} |", cells.join(" | "));
}
