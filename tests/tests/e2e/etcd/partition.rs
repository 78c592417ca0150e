//! A network that falls in two: packets between the halves are dropped, and nobody is told.
//!
//! Where the machine makes no namespaces, this says so and checks nothing.

use std::sync::Arc;

use anyhow::Result;
use weft_tests::mesh::Variant;
use weft_tests::namespace::Network;
use weft_tests::skip::skip;

use super::site::{APIS, GATEWAYS, Ground, LATE, LATE_SIDE, PUSHERS, SIDES, STEADY, Site};
use super::writers::Writers;
use crate::edge::routes;

/// How many acknowledged writes there are around each fault.
const ENOUGH: usize = 120;

/// Drops what these machines and those send each other, or no more.
fn divide(network: &Network, these: &[u8], those: &[u8], cut: bool) -> Result<()> {
    for one in these {
        for other in those {
            if cut {
                network.cut(*one, *other)?;
            } else {
                network.heal(*one, *other)?;
            }
        }
    }
    Ok(())
}

/// A route of its own host to the backend of the load.
fn marker(name: &str) -> (String, String) {
    let host = format!("{name}.example");
    let route = routes(name, "- route: [{ destination: { host: steady } }]");
    (route.replace("'*'", &host), host)
}

#[tokio::test]
async fn neither_half_of_a_divided_network_tells_a_lie() {
    let machines = 3 + u8::try_from(SIDES.len()).unwrap() + 1;
    let network = match Network::make(machines) {
        Ok(network) => network,
        Err(error) => {
            skip(format!("no network namespaces of one's own: {error:#}"));
            return;
        }
    };
    network.run(divided).await.unwrap();
}

async fn divided(network: Arc<Network>) -> Result<()> {
    let site = Site::start(Ground::Apart(network.clone())).await?;
    let late = site.bootstrap(LATE, Variant::Sotw).await?;
    let loads = site.loads().await?;
    let writers = Writers::start(&APIS.map(|n| site.ground.at(n, 8080)));
    writers.acknowledged(ENOUGH).await;

    // The leader is left with one API, one pusher and its gateways; everything else is on the other side.
    let leader = site.members.leader().await?;
    let rest: Vec<u8> = (0..3u8).filter(|n| usize::from(*n) != leader).collect();
    let minority = [u8::try_from(leader)?, SIDES[0], LATE_SIDE];
    let majority = [rest[0], rest[1], SIDES[1]];
    divide(&network, &minority, &majority, true)?;

    // What goes through the leader of before is not acknowledged, and that is said; the others have a new one.
    writers.unanswered(10).await;
    writers.acknowledged(ENOUGH).await;
    site.readyz((APIS[0], 8080), 503).await?;
    let (route, during) = marker("during");
    site.apply(APIS[1], route).await?;
    site.serves(GATEWAYS[1].0, &during).await?;
    // Who comes to the pusher that is cut off gets what there is.
    let envoy = site.envoy(LATE, late).await?;
    envoy.ready().await?;
    site.serves(LATE, STEADY).await?;
    // What the one side missed is forgotten by the other. A watch goes on by what its member catches up with, or begins anew.
    site.members.compact(usize::from(rest[0])).await?;
    writers.acknowledged(ENOUGH).await;
    divide(&network, &minority, &majority, false)?;
    for n in [GATEWAYS[0].0, LATE] {
        site.serves(n, &during).await?;
    }
    writers.acknowledged(ENOUGH).await;

    // No service reaches any member: nothing is acknowledged, and proxies are served all the same.
    divide(&network, &SIDES, &[0, 1, 2], true)?;
    for n in APIS {
        site.readyz((n, 8080), 503).await?;
    }
    writers.unanswered(10).await;
    for n in PUSHERS {
        site.readyz((n, 18001), 503).await?;
    }
    divide(&network, &SIDES, &[0, 1, 2], false)?;
    writers.acknowledged(ENOUGH).await;
    site.holds(writers, loads).await?;
    envoy.process.stop().await;
    // Without a quorum to ask, a pusher takes longer than the second for which an Envoy waits for its runtime.
    let late = "initial fetch timed out for type.googleapis.com/envoy.service.runtime.v3.Runtime";
    let mut others = envoy.complaints();
    others.retain(|line| !line.contains(late));
    anyhow::ensure!(others.is_empty(), "{others:?}");
    Ok(())
}
