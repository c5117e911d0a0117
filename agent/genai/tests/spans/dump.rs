use crate::{exchange::lines, recordings};
#[test]
fn dump() {
    let Ok(only) = std::env::var("DUMP") else { return };
    for folder in only.split(',') {
        for (name, exchange) in recordings::load(folder) {
            println!(
                "== {folder}/{} {} {} {} {}",
                &name[..name.len().min(70)],
                exchange.method,
                exchange.host,
                exchange.target,
                exchange.status
            );
            for span in exchange.spans() {
                println!("   {} {:?}", span.name, span.status);
                for line in lines(&span) {
                    println!("      {line}");
                }
            }
        }
    }
}
