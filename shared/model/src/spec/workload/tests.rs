use super::*;

#[test]
fn a_port_is_the_workloads_own_then_target_port_then_the_number() {
    let own = [("http".to_owned(), 1)].into();
    let cases = [
        ("the workload's wins", own, Some(2), 1),
        ("targetPort next", BTreeMap::new(), Some(2), 2),
        ("the service port last", BTreeMap::new(), None, 3),
    ];
    for (case, ports, target_port, want) in cases {
        let workload = WorkloadEntry {
            ports,
            ..WorkloadEntry::default()
        };
        let port = Port {
            name: "http".into(),
            number: 3,
            target_port,
            ..Port::default()
        };
        assert_eq!(workload.port(&port), want, "{case}");
    }
}
