//! Has it reached everyone? `/v1/rollouts` never says so before a request through every Envoy behaves the new way.

use nix::sys::signal::Signal;
use serde_json::Value;
use weft_tests::mesh::{Mesh, Options, Variant};
use weft_tests::{envoy::Version, load::Load, wait};

use crate::edge::{Edge, PORT, gateway, is, routes, service};

/// How often policy flips.
const FLIPS: u16 = 40;

/// What `/v1/rollouts` says of a revision.
pub(crate) async fn rollout(mesh: &Mesh, revision: &str, wait: &str) -> Value {
    let path = format!("/v1/rollouts/{revision}?wait={wait}");
    let answer = mesh.call(reqwest::Method::GET, &path, None).await.unwrap();
    answer.ok().unwrap().json().unwrap()
}

/// Waits until a revision has reached everyone.
pub(crate) async fn reached(mesh: &Mesh, revision: &str) -> Value {
    let what = format!("revision {revision} to be reached");
    wait::until(&what, wait::PATIENCE, async || {
        let said = rollout(mesh, revision, "10s").await;
        match said["reached"] == true {
            true => Ok(said),
            false => Err(said.to_string()),
        }
    })
    .await
    .unwrap()
}

/// A listener of its own, and a VirtualService that answers there.
fn place(port: u16, body: &str) -> String {
    let routes = format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{ name: at-{port}, namespace: shop }}\nspec:\n  \
         hosts: ['*']\n  gateways: [at-{port}]\n  http: [{{ directResponse: {{ status: 200, body: {{ string: {body} }} }} }}]\n"
    );
    [gateway(&format!("at-{port}"), port), routes].join("---\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn once_it_is_reached_every_proxy_behaves_the_new_way() {
    let edge = Edge::start("reached").await.unwrap();
    let one = edge.backend(2, "moving", "v0").await.unwrap();
    let other = edge.backend(3, "moving", "v1").await.unwrap();
    let at = [one.address(), other.address()];
    let moving = |n: usize| service("moving", &[at[n]]);
    let to = |host: &str| format!("- route: [{{ destination: {{ host: {host} }} }}]");
    let flip = |list: &str| routes("flip", list);
    let direct = |body: &str| {
        flip(&format!(
            "- directResponse: {{ status: 200, body: {{ string: {body} }} }}"
        ))
    };
    let start = [moving(0), flip(&to("moving"))].join("---\n");
    edge.mesh.apply(&start).await.unwrap();
    edge.all_answer("/", is("moving v0")).await.unwrap();
    let loads = edge.load(|load| Load {
        per_second: 50,
        connections: 2,
        ..load
    });
    let mut last = String::new();
    for n in 0..FLIPS {
        let version = usize::from(n / 5 % 2);
        let word = format!("flip-{n}");
        // Routes alone; routes, a cluster and its endpoints; endpoints alone; a listener with routes; several in a row.
        let (documents, port, expected) = match n % 5 {
            0 => (vec![direct(&word)], PORT, word),
            1 => {
                let fresh = service(&word, &[at[version]]);
                let documents = vec![[fresh, flip(&to(&word))].join("---\n")];
                (documents, PORT, format!("moving v{version}"))
            }
            2 => {
                let documents = vec![
                    [moving(version), flip(&to("moving"))].join("---\n"),
                    moving(1 - version),
                ];
                (documents, PORT, format!("moving v{}", 1 - version))
            }
            3 => {
                let port = 8100 + n;
                (vec![place(port, &word)], port, word)
            }
            _ => {
                let documents = [direct("early"), flip(&to("moving")), direct(&word)];
                (documents.to_vec(), PORT, word)
            }
        };
        for documents in documents {
            let answer = edge.mesh.apply(&documents).await.unwrap();
            last = answer["revision"].as_str().unwrap().to_owned();
        }
        let said = reached(&edge.mesh, &last).await;
        for gateway in &edge.gateways {
            let url = format!("http://{}:{port}/", gateway.address.ip());
            for _ in 0..4 {
                let answer = weft_tests::http::get(&url).await.unwrap();
                let seen = match expected.starts_with("moving") {
                    true => crate::edge::who(&answer),
                    false => answer.body.clone(),
                };
                assert_eq!(seen, expected, "{} at flip {n}: {said}", gateway.name);
            }
        }
        let named = said["settled"]["proxies"].as_array().unwrap();
        assert_eq!((&said["total"], named.len()), (&4.into(), 4), "{said}");
    }
    loads.flawless().await;

    // What has happened is there for every later question; what has not is no revision.
    let said = rollout(&edge.mesh, &last, "0s").await;
    assert_eq!(said["state"], "reached", "{said}");
    for (revision, code) in [("999999999", 404), ("0", 400), ("x", 400)] {
        let path = format!("/v1/rollouts/{revision}");
        let answer = (edge.mesh.call(reqwest::Method::GET, &path, None)).await;
        assert_eq!(answer.unwrap().status, code, "{revision}");
    }
    edge.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_refuses_and_who_is_silent_is_named_and_it_is_not_reached() {
    let kinds = [(Variant::Delta, Version::Newest)];
    let edge = Edge::start_with("unreached", &kinds, Options::default())
        .await
        .unwrap();
    let name = format!("gateway~istio-system~{}", edge.gateways[0].name);
    // Somebody else has the port: Envoy cannot open the listener and says so.
    let taken = std::net::TcpListener::bind(edge.mesh.net.at(10, 8001)).unwrap();
    let applied = edge.mesh.apply(&gateway("taken", 8001)).await.unwrap();
    let revision = applied["revision"].as_str().unwrap().to_owned();
    let said = wait::until("the refusal", wait::PATIENCE, async || {
        let said = rollout(&edge.mesh, &revision, "10s").await;
        match said["state"] == "refused" {
            true => Ok(said),
            false => Err(said.to_string()),
        }
    })
    .await
    .unwrap();
    let refused = &said["refused"]["proxies"][0];
    assert_eq!(
        (&refused["id"], &said["reached"]),
        (&name.as_str().into(), &false.into())
    );
    assert_eq!(refused["resources"][0]["type"], "LDS", "{said}");
    let server = format!("http://{}", edge.mesh.api_address());
    let line = format!("wait {revision} --timeout 20s");
    let output = crate::meshctl::meshctl(&server, &line)
        .output()
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains(&name) && text.contains("Address already in use"),
        "{text}"
    );
    drop(taken);

    // Corrected, it is reached; and a pusher that cannot answer is no proof of anything.
    let path = "/apis/networking.istio.io/v1/namespaces/shop/gateways/taken";
    let gone = edge.mesh.call(reqwest::Method::DELETE, path, None).await;
    gone.unwrap().ok().unwrap();
    let fine = "- directResponse: { status: 200, body: { string: ok } }";
    let applied = edge.mesh.apply(&routes("all", fine)).await.unwrap();
    let revision = applied["revision"].as_str().unwrap().to_owned();
    reached(&edge.mesh, &revision).await;
    edge.mesh.pusher.signal(Signal::SIGSTOP);
    let said = rollout(&edge.mesh, &revision, "1s").await;
    edge.mesh.pusher.signal(Signal::SIGCONT);
    assert_eq!(said["reached"], false, "{said}");
    assert!(said["silent"][0]["reason"].is_string(), "{said}");
    let mut command = crate::meshctl::meshctl(&server, &format!("wait {revision}"));
    let output = command.output().await.unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}
