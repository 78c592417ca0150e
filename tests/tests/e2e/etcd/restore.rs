//! A backup is restored: the members forget what was written since, and their revisions are given out once more. Pushers that
//! lived through it follow without a restart, Envoys obey, and no request fails.

use nix::sys::signal::Signal;
use serde_json::json;
use weft_tests::net::Block;
use weft_tests::{http, wait};

use super::site::{APIS, GATEWAYS, Ground, Site};
use crate::edge::{PORT, no_complaints};

/// A host whose answer is this text.
fn says(name: &str, text: &str) -> String {
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {
            "hosts": [host(name)], "gateways": ["edge"],
            "http": [{"directResponse": {"status": 200, "body": {"string": text}}}],
        },
    })
    .to_string()
}

fn host(name: &str) -> String {
    format!("{name}.example")
}

/// Waits until both gateways say so; without a text, that nobody is there.
async fn all_say(site: &Site, name: &str, text: Option<&str>) {
    for (n, _) in GATEWAYS {
        let url = format!("http://{}/", site.ground.at(n, PORT));
        let what = format!("gw-{n} to say {text:?} for {name}");
        wait::until(&what, wait::PATIENCE, async || {
            let answer = http::send(http::client().get(&url).header("host", host(name))).await?;
            let right = match text {
                Some(text) => answer.status == 200 && answer.body == text,
                None => answer.status == 404,
            };
            anyhow::ensure!(right, "{}: {}", answer.status, answer.body);
            Ok(())
        })
        .await
        .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_backup_is_followed_by_who_lived_through_it() {
    let site = Site::start(Ground::One(Block::claim().unwrap()))
        .await
        .unwrap();
    let loads = site.loads().await.unwrap();
    let apply = async |document: String| {
        let what = "the API to take it";
        let taken = wait::until(what, wait::PATIENCE, async || {
            site.apply(APIS[0], document.clone()).await
        });
        taken.await.unwrap()
    };
    apply(says("kept", "before")).await;
    let backup = site.run.path("backup");
    site.members.save(0, &backup).await.unwrap();
    apply(says("kept", "lost")).await;
    let newest = apply(says("added", "lost")).await;
    all_say(&site, "kept", Some("lost")).await;
    all_say(&site, "added", Some("lost")).await;

    // One pusher hears of it only when the revisions of before have been given out again.
    site.pushers[1].signal(Signal::SIGSTOP);
    site.members.restore(&backup, &site.run).await.unwrap();
    site.members.new_epoch().await.unwrap();
    all_say(&site, "added", None).await;
    all_say(&site, "kept", Some("before")).await;
    for n in 0.. {
        if apply(says("kept", &format!("after {n}"))).await > newest {
            break;
        }
    }
    apply(says("kept", "after")).await;
    site.pushers[1].signal(Signal::SIGCONT);
    site.begins_anew(1).await.unwrap();
    all_say(&site, "kept", Some("after")).await;
    all_say(&site, "added", None).await;

    site.all_ready(200).await.unwrap();
    assert!(site.pushers.iter().all(|it| it.exited().is_none()));
    for (n, load) in loads {
        let report = load.stop().await.flawless();
        report.unwrap_or_else(|error| panic!("gw-{n}: {error}"));
    }
    no_complaints(&site.envoys).await;
}
