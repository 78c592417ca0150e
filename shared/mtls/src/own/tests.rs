#![allow(clippy::unwrap_used)]

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    identity: IdentityFlags,
}

fn parse(args: &[&str]) -> Result<IdentityFlags, String> {
    let parsed = Flags::try_parse_from([&["service"], args].concat());
    let parsed = parsed.map_err(|error| error.to_string())?;
    Ok(parsed.identity)
}

#[test]
fn a_place_is_a_host_and_a_port() {
    for good in ["xds-pusher:18000", "10.0.0.1:1", "[::1]:65535"] {
        assert_eq!(place(good), Ok(good.to_owned()));
    }
    for bad in [
        "",
        "xds-pusher",
        ":18000",
        "xds-pusher:0",
        "xds-pusher:65536",
        "xds-pusher:http",
    ] {
        assert!(
            place(bad).unwrap_err().contains("is not host:port"),
            "{bad}"
        );
    }
}

#[test]
fn a_certificate_of_its_own_for_etcd_needs_a_way_to_it_without_etcd() {
    let dir = std::env::temp_dir().join(format!("weft-own-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let root = rcgen::generate_simple_self_signed(vec!["root".to_owned()]).unwrap();
    let (good, bad) = (dir.join("roots.pem"), dir.join("empty.pem"));
    std::fs::write(&good, root.cert.pem()).unwrap();
    std::fs::write(&bad, "").unwrap();
    let (good, bad) = (good.to_str().unwrap(), bad.to_str().unwrap());
    let all = [
        "--etcd-own-certificate",
        "--credential-file=/c",
        "--issuers=issuer:18010",
        &format!("--roots-file={good}"),
    ];
    let shown = parse(&all).unwrap().for_etcd().unwrap().unwrap();
    assert!(shown().unwrap_err().contains("no issuer has given"));
    for (n, missing) in [
        (1, "--credential-file"),
        (2, "--issuers"),
        (3, "--roots-file"),
    ] {
        let mut args = all.to_vec();
        args.remove(n);
        let error = parse(&args).unwrap().for_etcd().err().unwrap();
        assert!(
            error.starts_with(&format!("--etcd-own-certificate needs {missing}, ")),
            "{error}"
        );
    }
    assert!(parse(&all[1..]).unwrap().for_etcd().unwrap().is_none());
    for (path, why) in [
        (bad, "no certificate in it"),
        ("/nowhere", "cannot be read"),
    ] {
        let error = parse(&["--roots-file", path]).unwrap_err();
        assert!(
            error.contains("--roots-file") && error.contains(why),
            "{error}"
        );
    }
    std::fs::remove_dir_all(&dir).unwrap();
}
