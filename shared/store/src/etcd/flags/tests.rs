#![allow(clippy::unwrap_used)]

use clap::Parser;

use super::*;
use crate::testing::Authority;

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    etcd: EtcdFlags,
}

fn config(args: &[&str], own: Option<OwnIdentity>) -> Result<EtcdConfig, String> {
    let flags = Flags::try_parse_from([&["service"], args].concat());
    let config = flags.unwrap().etcd.config(own);
    config.map_err(|error| error.to_string())
}

#[test]
fn contradictions_are_refused_with_the_flag_the_value_and_the_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let authority = Authority::new("a");
    let (pair, other) = (authority.issue(&["weft"]), authority.issue(&["weft"]));
    let ca = file("ca.pem", &authority.pem());
    let (certificate, key) = (file("cert.pem", &pair.0), file("key.pem", &pair.1));
    let (other, empty) = (file("other.key", &other.1), file("empty.pem", ""));
    let https = ["--etcd-endpoints", "https://etcd:2379"];
    let own: OwnIdentity = Arc::new(|| Err("not yet".into()));

    assert!(config(&[], None).unwrap().tls.is_none());
    let ca_flag = ["--etcd-ca-file", &ca];
    let shown = ["--etcd-cert-file", &certificate, "--etcd-key-file", &key];
    for good in [
        [&https[..], &ca_flag].concat(),
        [&https[..], &ca_flag, &shown].concat(),
    ] {
        assert!(config(&good, None).unwrap().tls.is_some(), "{good:?}");
    }
    let good = [&https[..], &ca_flag].concat();
    assert!(config(&good, Some(own.clone())).unwrap().tls.is_some());

    let mixed = ["--etcd-endpoints", "https://a:1,http://b:1"];
    let missing = ["--etcd-ca-file", "/nowhere/ca.pem"];
    let mismatch = ["--etcd-cert-file", &certificate, "--etcd-key-file", &other];
    let swapped = ["--etcd-cert-file", &key, "--etcd-key-file", &certificate];
    for (args, own, named) in [
        (
            [&https[..], &ca_flag, &shown[..2]].concat(),
            None,
            &["--etcd-cert-file", &certificate, "set --etcd-key-file too"][..],
        ),
        (
            [&https[..], &ca_flag, &shown[2..]].concat(),
            None,
            &["--etcd-key-file", &key, "set --etcd-cert-file too"],
        ),
        (
            ca_flag.to_vec(),
            None,
            &[
                "http://127.0.0.1:2379 is not https://",
                "drop --etcd-ca-file",
            ],
        ),
        (
            shown.to_vec(),
            None,
            &["http://127.0.0.1:2379", "drop --etcd-cert-file"],
        ),
        (
            [&mixed[..], &ca_flag].concat(),
            None,
            &["http://b:1 is not https://"],
        ),
        (
            vec!["--etcd-endpoints", "etcd:2379", "--etcd-ca-file", &ca],
            None,
            &["etcd:2379 is not https://"],
        ),
        (
            https.to_vec(),
            None,
            &["https://etcd:2379 needs --etcd-ca-file"],
        ),
        (
            [&https[..], &shown].concat(),
            None,
            &["https://etcd:2379 needs --etcd-ca-file"],
        ),
        (
            vec![],
            Some(own.clone()),
            &["http://127.0.0.1:2379", "drop --etcd-own-certificate"],
        ),
        (
            [&https[..], &ca_flag, &shown].concat(),
            Some(own),
            &["--etcd-cert-file", &certificate, "exclude each other"],
        ),
        (
            [&https[..], &missing].concat(),
            None,
            &["--etcd-ca-file", "/nowhere/ca.pem cannot be read"],
        ),
        (
            [&https[..], &["--etcd-ca-file", &empty]].concat(),
            None,
            &[&empty, "holds no certificate"],
        ),
        (
            [&https[..], &ca_flag, &mismatch].concat(),
            None,
            &["the certificate and its key"],
        ),
        (
            [&https[..], &ca_flag, &swapped].concat(),
            None,
            &[&key, "holds no certificate"],
        ),
    ] {
        let error = config(&args, own).unwrap_err();
        for named in named {
            assert!(error.contains(named), "{args:?}: {error}");
        }
    }
}
