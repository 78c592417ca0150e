//! What `make up` says.
//!
//! *Invariant:* the last thing said before the stack is left alone is one line, `ready`.

use std::net::SocketAddr;

use anstream::println;

use super::flags::Flags;
use super::shop;
use crate::run::Run;

pub(super) fn line(text: &str) {
    println!("{text}");
}

pub(super) fn start(what: &str, address: SocketAddr) {
    println!("starting {what:<24} {address}");
}

pub(super) fn everything(flags: &Flags, logs: &Run) {
    let (api, gateway) = (flags.api, flags.gateway);
    println!("\nWhat is where");
    for a_use in flags.uses() {
        println!("  {:<36} {}", a_use.what, a_use.address);
    }
    println!("  {:<36} {}", "logs", logs.path("").display());
    println!("\nWhat to try");
    println!(
        "  curl http://{gateway}/                                  # web, which calls orders and payments"
    );
    println!("  curl http://{gateway}/orders/1                          # orders v1");
    println!(
        "  curl -H 'x-user: tester' http://{gateway}/              # web calls orders v2 for testers"
    );
    let kubectl = format!("kubectl --server=http://{api} -n shop");
    println!("  {kubectl} get virtualservices,destinationrules,workloadentries");
    println!("  {kubectl} patch virtualservice shop --type=json \\");
    println!(
        "    -p '[{{\"op\":\"replace\",\"path\":\"/spec/http/0/route/0/destination/subset\",\"value\":\"v2\"}}]'"
    );
    println!("  curl http://{gateway}/orders/1                          # now v2");
    if !flags.insecure_plaintext_xds {
        println!(
            "  curl http://{api}/v1/mtls/orders                       # who takes mutual TLS, by which policy"
        );
    }
    println!("  curl http://{api}/v1/proxies                           # what each Envoy runs");
    println!("  curl http://{api}/v1/history/networking.istio.io/VirtualService/shop/shop");
    if let Some(first) = shop::workloads(flags).first() {
        println!(
            "  curl http://{}/config_dump                         # an Envoy's own view",
            first.admin
        );
    }
    println!(
        "\nCtrl-C stops everything; the state stays in {} until that is deleted (make clean deletes .weft).",
        flags.state.display()
    );
    println!("ready");
}
