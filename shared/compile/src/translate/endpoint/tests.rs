#![allow(clippy::unwrap_used)]

use super::*;

fn at(place: &str, address: &str, weight: u32) -> Endpoint {
    Endpoint {
        place: Place::new(place),
        address: Address::new(address, 8080),
        weight,
        ..Default::default()
    }
}

fn assignment(endpoints: &[Endpoint]) -> pb::ClusterLoadAssignment {
    let (place, labels) = (Place::default(), BTreeMap::new());
    load_assignment(
        "c",
        endpoints,
        &Balance::new(&place, &labels, None, None, false),
    )
}

#[test]
fn the_order_of_workloads_does_not_show() {
    let (a, b, c) = (
        at("r2", "10.0.0.1", 1),
        at("r1", "10.0.0.2", 0),
        at("r1", "10.0.0.3", 5),
    );
    let one = assignment(&[a.clone(), b.clone(), c.clone()]);
    assert_eq!(one, assignment(&[c, a, b]));
    let weights: Vec<_> = one
        .endpoints
        .iter()
        .map(|group| group.load_balancing_weight.unwrap().value)
        .collect();
    assert_eq!(
        weights,
        [6, 1],
        "the sum of r1, where no weight counts as 1, then r2"
    );
}

#[test]
fn no_endpoint_is_an_empty_assignment() {
    let empty = assignment(&[]);
    assert_eq!(
        (empty.cluster_name.as_str(), empty.endpoints.len()),
        ("c", 0)
    );
}

#[test]
fn workload_and_unix_sockets_show() {
    let endpoint = Endpoint {
        address: Address::new("unix:///run/app.sock", 8080),
        workload: "shop/orders-1".into(),
        ..Default::default()
    };
    let made = &assignment(&[endpoint]).endpoints[0].lb_endpoints[0];
    assert_eq!(
        made.metadata,
        Some(pb::metadata(
            "istio",
            "workload",
            pb::string("shop/orders-1")
        ))
    );
    let Some(pb::lb_endpoint::HostIdentifier::Endpoint(inner)) = &made.host_identifier else {
        panic!("an inline endpoint")
    };
    let Some(pb::address::Address::Pipe(pipe)) = &inner.address.as_ref().unwrap().address else {
        panic!("a pipe")
    };
    assert_eq!(pipe.path, "/run/app.sock");
}
