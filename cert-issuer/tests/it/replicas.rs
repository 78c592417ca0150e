//! Replicas that share one authority, and what of it is in the store.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cert_issuer::authority::Stage;
use cert_issuer::authority::rotation::Step;
use cert_issuer::ca::Ca;
use jiff::{SignedDuration, Timestamp};
use model::{AuthorityOutcome, AuthorityRequest, AuthorityStep};
use store::testing::Etcd;
use store::{Area, Expect, Member, Store, Vault, VaultOp};

use crate::fixture::{Issuer, KEYS, credential, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_start_together_share_one_authority() {
    let etcd = Etcd::start().await;
    let replicas = futures::future::join_all((0..3).map(|_| Issuer::start(&etcd, &[]))).await;
    let first = replicas[0].bundle().await;
    for replica in &replicas {
        assert_eq!(replica.bundle().await, first);
    }
    let shown = etcd
        .store()
        .read(Area::Ca, "bundle.pem")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(*shown.value, *first.as_bytes());
    // Whoever leads goes; the rest go on with the same authority, and so does one that starts anew.
    for replica in replicas {
        replica.stop().await;
        let again = Issuer::start(&etcd, &[]).await;
        assert_eq!(again.bundle().await, first);
        again.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_key_and_no_credential_is_readable_in_the_store() {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let etcd = Etcd::start().await;
    let store = etcd.store();
    let issuer = Issuer::start(&etcd, &[]).await;
    let token = credential(&store, "spiffe://td/ns/shop/sa/orders", "orders-v1").await;
    let keys = cert_issuer::envelope::KeyList::parse(KEYS).unwrap();
    let domain: model::TrustDomain = "td".parse().unwrap();
    let policy = cert_issuer::authority::Policy::default();
    let ca = Ca::new(Arc::new(store.clone()), keys, domain, policy);
    let (authority, _) = ca.load().await.unwrap();
    let mut canaries = vec![token.expose().as_bytes().to_vec()];
    let root = &authority.active_root().signer;
    for key in [
        root.key(),
        authority.issuing().key(),
        &authority.jwt_keys()[0].key,
    ] {
        // The secret number of a P-256 key lies here in its encoding.
        let secret = &key.pkcs8()[36..68];
        canaries.extend([secret.to_vec(), STANDARD.encode(secret).into_bytes()]);
        // In base64 of the whole, whichever way the bytes fall.
        canaries.push(STANDARD.encode(&key.pkcs8()[36..66]).into_bytes());
    }
    let mut seen = 0;
    for (area, path) in [
        (Area::Ca, "state"),
        (Area::Ca, "bundle.pem"),
        (Area::Tokens, token.hash().as_str()),
    ] {
        let stored = store.read(area, path).await.unwrap().unwrap();
        for canary in &canaries {
            let found = stored
                .value
                .windows(canary.len())
                .any(|bytes| bytes == canary);
            assert!(!found, "{area:?} {path} holds a secret");
            seen += 1;
        }
    }
    assert_eq!(seen, 30);
    // The same search finds them where they are in the clear.
    let plain = authority.to_bytes();
    let found = |canary: &Vec<u8>| plain.windows(canary.len()).any(|bytes| bytes == canary);
    assert_eq!(canaries.iter().filter(|canary| found(canary)).count(), 3);
    issuer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_authority_outlives_the_store_being_away() {
    let mut etcd = Etcd::start().await;
    let store = etcd.store();
    let issuer = Issuer::start(&etcd, &[]).await;
    let token = credential(&store, "spiffe://td/ns/shop/sa/orders", "orders-v1").await;
    let client = issuer.client().await;
    let sign = || async {
        let request = client
            .post(issuer.url("/v1/jwt-svid"))
            .bearer_auth(token.expose());
        let request = request.body(r#"{"audience":["db"]}"#);
        request.send().await.unwrap().status().is_success()
    };
    until("the credential to be known", sign).await;
    etcd.kill();
    assert!(sign().await, "everybody signs without the store");
    etcd.restart().await;
    let late = credential(&etcd.store(), "spiffe://td/ns/shop/sa/late", "late-v1").await;
    until("new credentials to be known again", async || {
        let request = client
            .get(issuer.url("/v1/bundle"))
            .bearer_auth(late.expose());
        request.send().await.unwrap().status().is_success()
    })
    .await;
    issuer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_waits_for_a_replica_of_which_nothing_is_known() {
    let etcd = Etcd::start().await;
    let store = etcd.store();
    let flags = [
        "--root-overlap=1s",
        "--root-patience=12h",
        "--svid-ttl=30s",
        "--issuing-ttl=240h",
    ];
    let issuer = Issuer::start(&etcd, &flags).await;
    let keys = cert_issuer::envelope::KeyList::parse(KEYS).unwrap();
    let domain: model::TrustDomain = "td".parse().unwrap();
    let policy = cert_issuer::authority::Policy::default();
    let ca = Ca::new(Arc::new(store.clone()), keys, domain, policy);
    let mut member = Member {
        instance: "silent".into(),
        addresses: [("grpc".into(), "127.0.0.1:1".into())].into(),
        since: model::Revision(0),
    };
    let ttl = Duration::from_secs(60);
    let silent = store
        .join(cert_issuer::SERVICE, member.clone(), ttl)
        .await
        .unwrap();
    let sequence = ca.force(&Step::PrepareRoot).await.unwrap().sequence();
    let stage = async || ca.load().await.unwrap().0.roots()[1].stage;
    // Far beyond the overlap it waits: first for a word, and then for the right one.
    for said in [None, Some(sequence - 1)] {
        if let Some(said) = said {
            member
                .addresses
                .insert("acknowledged".into(), said.to_string());
            silent.set_addresses(member.addresses.clone());
        }
        let later = Timestamp::now() + SignedDuration::from_secs(5);
        until("the overlap to be over", async || Timestamp::now() > later).await;
        assert_eq!(stage().await, Stage::Prepared, "{said:?}");
    }
    member
        .addresses
        .insert("acknowledged".into(), sequence.to_string());
    silent.set_addresses(member.addresses.clone());
    until("the root to be active", async || {
        stage().await == Stage::Active
    })
    .await;

    // And for nobody whose membership ended.
    let sequence = ca.force(&Step::PrepareRoot).await.unwrap().sequence();
    silent.leave().await;
    let active = async || ca.load().await.unwrap().0.active_root().sequence;
    until("the next root to be active", async || {
        active().await == sequence
    })
    .await;
    issuer.stop().await;
}

/// An issuer that has just started has no streams; that is not to say that there are no proxies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_issuer_that_starts_gives_proxies_time_to_come_back() {
    const OVERLAP: Duration = Duration::from_secs(15);
    let etcd = Etcd::start().await;
    let flags = ["--root-overlap=15s", "--root-patience=24h"];
    let before = Issuer::start(&etcd, &flags).await;
    let keys = cert_issuer::envelope::KeyList::parse(KEYS).unwrap();
    let policy = cert_issuer::authority::Policy::default();
    let vault = Arc::new(etcd.store());
    let ca = Ca::new(vault, keys, "td".parse().unwrap(), policy);
    let prepared = ca.force(&Step::PrepareRoot).await.unwrap();
    before.stop().await;
    let new = prepared.roots()[1].clone();
    let stands = async || ca.load().await.unwrap().0.active_root().name == new.name;
    assert!(!stands().await);
    // Until it was shown long enough, the overlap itself holds it back.
    let shown = || Timestamp::now().duration_since(new.since) >= OVERLAP.try_into().unwrap();
    until("the overlap to pass", async || shown()).await;
    let started = Instant::now();
    let after = Issuer::start(&etcd, &flags).await;
    until("the new root to be active", stands).await;
    let took = started.elapsed();
    assert!(took >= OVERLAP, "active after {took:?}");
    after.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_operators_ask_for_is_done_or_refused() {
    let etcd = Etcd::start().await;
    let store = etcd.store();
    let issuer = Issuer::start(&etcd, &["--root-overlap=1s"]).await;
    let ask = async |step: AuthorityStep, made: Timestamp, outcome: Option<AuthorityOutcome>| {
        let path = format!("requests/{}", made.as_nanosecond());
        let who = "ann".to_owned();
        let request = AuthorityRequest {
            step,
            who,
            made,
            traceparent: None,
            tracestate: None,
            outcome,
        };
        let put = VaultOp::Put {
            path: path.clone(),
            value: request.to_bytes(),
            expect: Expect::Absent,
        };
        store.write(Area::Ca, vec![put], None).await.unwrap();
        path
    };
    let outcome = async |path: String| {
        let mut found = None;
        until("the outcome", async || {
            let entry = store.read(Area::Ca, &path).await.unwrap().unwrap();
            found = AuthorityRequest::from_bytes(&entry.value).unwrap().outcome;
            found.is_some()
        })
        .await;
        found.unwrap()
    };
    let status = async || {
        let entry = store.read(Area::Ca, "status.json").await.unwrap().unwrap();
        crate::fixture::json(std::str::from_utf8(&entry.value).unwrap())
    };
    let before = status().await;
    assert_eq!(before["roots"][0]["stage"], "active");
    let path = ask(AuthorityStep::RotateIssuing, Timestamp::now(), None).await;
    assert_eq!(outcome(path).await, AuthorityOutcome::Done);
    let after = status().await;
    assert_ne!(after["issuing"], before["issuing"]);
    let path = ask(AuthorityStep::RotateRoot, Timestamp::now(), None).await;
    assert_eq!(outcome(path).await, AuthorityOutcome::Done);
    until("the new root to be active", async || {
        let roots = &status().await["roots"];
        roots[1]["stage"] == "active" && roots[1]["certifiedBy"][0] == roots[0]["name"]
    })
    .await;
    let path = ask(
        AuthorityStep::RevokeRoot("root-x".into()),
        Timestamp::now(),
        None,
    )
    .await;
    let refused = outcome(path).await;
    assert!(
        matches!(&refused, AuthorityOutcome::Refused(why) if why.contains("no root")),
        "{refused:?}"
    );
    let old = before["roots"][0]["name"].as_str().unwrap().to_owned();
    let path = ask(AuthorityStep::RevokeRoot(old), Timestamp::now(), None).await;
    assert_eq!(outcome(path).await, AuthorityOutcome::Done);
    assert_eq!(status().await["roots"].as_array().unwrap().len(), 1);
    // Each step is on record with who asked for it, in the transaction that took it.
    let records = Store::history(&store, None, None, 0).await.unwrap();
    let named: Vec<_> = records
        .iter()
        .filter(|record| record.author.who == "ann")
        .flat_map(|record| record.deeds.iter().map(move |deed| (record.revision, deed)))
        .collect();
    let names: Vec<&str> = named.iter().map(|(_, deed)| &*deed.name).collect();
    let revoked = format!(
        "revokeRoot {}",
        before["roots"][0]["name"].as_str().unwrap()
    );
    assert_eq!(names, [&*revoked, "rotateRoot", "rotateIssuing"]);
    for (at, deed) in named {
        assert_eq!(deed.kind, "CertificateAuthority");
        assert!(deed.before.is_some_and(|before| before < at) && deed.after);
    }

    // An answer that nobody fetched is forgotten.
    let long_ago = Timestamp::now() - SignedDuration::from_hours(1);
    let path = ask(
        AuthorityStep::RotateRoot,
        long_ago,
        Some(AuthorityOutcome::Done),
    )
    .await;
    until("the answer to be forgotten", async || {
        store.read(Area::Ca, &path).await.unwrap().is_none()
    })
    .await;
    issuer.stop().await;
}
