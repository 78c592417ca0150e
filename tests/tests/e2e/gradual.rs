//! Gradual delivery: a change goes to a few of twenty proxies first, on to all if these run it, and no further if one refuses.

mod several;

use serde_json::{Value, json};
use weft_tests::mesh::{Mesh, Variant};
use weft_tests::xds_client::{Client, Reaction, Settings, Type};
use weft_tests::{http, load::Load, wait};

use crate::edge::{Edge, gateway, routes, workload};
use crate::rollouts::{reached, rollout};

/// How many of the twenty are simulated.
const SIMULATED: u8 = 16;
/// The port of the poison: nobody can open it, and the route configuration of its listener is called after it.
const PORT: u16 = 8001;
const POISON: &str = "http.8001";

/// Twenty gateways, four of them real.
struct Twenty {
    edge: Edge,
    clients: Vec<Client>,
    /// The pushers that the simulated ones call, by their addresses' numbers.
    pushers: Vec<u8>,
    /// Keep the port of the poison from the real ones.
    _taken: Vec<std::net::TcpListener>,
}

fn simulated(n: u8) -> String {
    format!("sim-{n}")
}

impl Twenty {
    async fn start(name: &str) -> Self {
        let edge = Edge::start(name).await.unwrap();
        let taken = edge.gateways.iter().map(|gateway| {
            let at = std::net::SocketAddr::new(gateway.address.ip(), PORT);
            std::net::TcpListener::bind(at).unwrap()
        });
        let taken = taken.collect();
        let entries = (0..SIMULATED).map(|n| {
            let at = edge.mesh.net.at(100 + n, 8000);
            workload(
                "istio-system",
                &simulated(n),
                at,
                &[("istio", "ingressgateway")],
            )
        });
        let mut documents: Vec<String> = entries.collect();
        documents.push(says("first"));
        let applied = edge.mesh.apply(&documents.join("---\n")).await.unwrap();
        let mut all = Self {
            edge,
            clients: Vec::new(),
            pushers: vec![1],
            _taken: taken,
        };
        all.connect().await;
        let said = reached(&all.edge.mesh, revision(&applied)).await;
        assert_eq!(said["total"], 20, "{said}");
        all
    }

    /// Connects the simulated ones, anew if they were.
    async fn connect(&mut self) {
        self.clients.clear();
        for (n, pusher) in (0..SIMULATED).zip(self.pushers.iter().cycle()) {
            let to = format!("http://{}", self.edge.mesh.net.at(*pusher, 18000));
            let channel = tonic::transport::Endpoint::from_shared(to).unwrap();
            let settings = Settings {
                node: format!("gateway~istio-system~{}", simulated(n)),
                variant: Variant::ALL[usize::from(n % 2)],
                reaction: Reaction::Poisoned(POISON),
            };
            let channel = wait::until("the pusher", wait::PATIENCE, async || {
                channel.connect().await
            });
            let client = Client::open(channel.await.unwrap(), settings)
                .await
                .unwrap();
            let held = |state: &weft_tests::xds_client::State| state.holds(Type::Route) > 0;
            client
                .until("its routes", wait::PATIENCE, held)
                .await
                .unwrap();
            self.clients.push(client);
        }
    }

    /// The node ids that refused something.
    async fn refusing(&self) -> Vec<String> {
        let mut found = Vec::new();
        for gateway in &self.edge.gateways {
            let rejected = gateway.envoy.stats("lds.update_rejected$").await.unwrap();
            if rejected.values().any(|count| *count > 0) {
                found.push(format!("gateway~istio-system~{}", gateway.name));
            }
        }
        for (n, client) in (0..).zip(&self.clients) {
            if client.state().refused > 0 {
                found.push(format!("gateway~istio-system~{}", simulated(n)));
            }
        }
        found
    }

    /// What each real gateway says.
    async fn all_say(&self, text: &str) {
        for gateway in &self.edge.gateways {
            assert_eq!(
                gateway.get("/").await.unwrap().body,
                text,
                "{}",
                gateway.name
            );
        }
    }
}

fn says(text: &str) -> String {
    let answer = format!("- directResponse: {{ status: 200, body: {{ string: {text} }} }}");
    routes("says", &answer)
}

fn revision(answer: &Value) -> &str {
    answer["revision"].as_str().unwrap()
}

async fn apply(mesh: &Mesh, how: &str, yaml: &str) -> http::Answer {
    let url = format!("http://{}/v1/apply?{how}", mesh.api_address());
    let request = http::client()
        .post(url)
        .header("content-type", "application/yaml");
    http::send(request.body(yaml.to_owned())).await.unwrap()
}

/// Waits until a rollout is in a phase.
async fn until_phase(mesh: &Mesh, revision: &str, phase: &str) -> Value {
    let what = format!("the rollout {revision} to be {phase}");
    wait::until(&what, wait::PATIENCE, async || {
        let said = rollout(mesh, revision, "0s").await;
        match said["gradual"]["phase"] == phase {
            true => Ok(said),
            false => Err(said.to_string()),
        }
    })
    .await
    .unwrap()
}

const TAKEN: &str = "/apis/networking.istio.io/v1/namespaces/shop/gateways/taken";

async fn get(mesh: &Mesh, path: &str) -> http::Answer {
    mesh.call(reqwest::Method::GET, path, None).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_reaches_one_of_twenty_and_is_taken_back() {
    let all = Twenty::start("gradual").await;
    let mesh = &all.edge.mesh;
    let loads = all.edge.load(|load| Load {
        per_second: 30,
        connections: 2,
        ..load
    });

    // What is good goes to three, and on to all.
    let answer = apply(mesh, "gradual=3", &says("good")).await.ok().unwrap();
    assert!(answer.header("warning").unwrap().contains("gradually"));
    let applied = answer.json().unwrap();
    let said = reached(mesh, revision(&applied)).await;
    let gradual = &said["gradual"];
    assert_eq!(
        (
            &gradual["phase"],
            gradual["proxies"].as_array().unwrap().len()
        ),
        (&json!("Done"), 3),
        "{said}"
    );
    all.all_say("good").await;
    assert_eq!(all.refusing().await, Vec::<String>::new());

    // Poison goes to one, which refuses it; then it is as if it had not been.
    let poison = gateway("taken", PORT);
    let answer = apply(mesh, "gradual=1&rollback=true", &poison).await;
    let applied = answer.ok().unwrap().json().unwrap();
    let said = until_phase(mesh, revision(&applied), "RolledBack").await;
    let refusing = all.refusing().await;
    assert_eq!(refusing.len(), 1, "{refusing:?}: {said}");
    assert_eq!(said["gradual"]["proxies"], json!(refusing), "{said}");
    let reason = said["gradual"]["reason"].as_str().unwrap();
    assert!(
        reason.starts_with(&format!("{} refused it: LDS", refusing[0])),
        "{reason}"
    );
    assert_eq!(
        (&said["reached"], &said["state"]),
        (&json!(false), &json!("rolledBack"))
    );
    assert_eq!(get(mesh, TAKEN).await.status, 404);
    let ended = said["gradual"]["endedAt"].as_str().unwrap().to_owned();
    reached(mesh, &ended).await;
    assert_eq!(all.refusing().await, refusing);

    // And what comes after is delivered as ever.
    let applied = mesh.apply(&says("after")).await.unwrap();
    let said = reached(mesh, revision(&applied)).await;
    assert_eq!(said["total"], 20, "{said}");
    all.all_say("after").await;
    loads.flawless().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stopped_stays_where_it_is_until_somebody_decides() {
    let mut all = Twenty::start("stopped").await;
    let server = format!("http://{}", all.edge.mesh.api_address());
    let file = all.edge.mesh.run.path("poison.yaml");
    std::fs::write(&file, gateway("taken", PORT)).unwrap();
    let meshctl = async |line: &str| {
        let output = crate::meshctl::meshctl(&server, line)
            .output()
            .await
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), text + &errors)
    };
    let line = format!("apply -f {} --gradual --wait --timeout 80s", file.display());
    let (code, text) = meshctl(&line).await;
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("stopped\n  because gateway~"), "{text}");
    let mesh = &all.edge.mesh;
    let refusing = all.refusing().await;
    assert_eq!(refusing.len(), 1, "{refusing:?}");
    let object = get(mesh, TAKEN).await.ok().unwrap().json().unwrap();
    let conditions = object["status"]["conditions"].as_array().unwrap();
    let held = conditions.iter().find(|it| it["type"] == "Delivered");
    assert_eq!(held.unwrap()["reason"], "Stopped", "{object}");
    let at = object["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .to_owned();

    // Nobody writes over it, others are written as ever, and reach all twenty.
    let second = mesh.apply(&gateway("taken", 8002)).await.unwrap_err();
    assert!(
        format!("{second:#}").contains(&format!("meshctl rollout abort {at}")),
        "{second:#}"
    );
    mesh.apply(&says("meanwhile")).await.unwrap();
    let said = wait::until("what is no part of it", wait::PATIENCE, async || {
        for gateway in &all.edge.gateways {
            let body = gateway.get("/").await?.body;
            anyhow::ensure!(body == "meanwhile", "{}: {body}", gateway.name);
        }
        Ok(())
    });
    said.await.unwrap();

    // A pusher that starts in the middle tells everybody what they were told before.
    all.edge.mesh.pusher.kill();
    all.edge.mesh.restart_pusher().await.unwrap();
    all.connect().await;
    let mesh = &all.edge.mesh;
    let applied = mesh.apply(&says("again")).await.unwrap();
    let said = wait::until("all to be connected", wait::PATIENCE, async || {
        let said = rollout(mesh, revision(&applied), "1s").await;
        let known = said["total"] == 20 && said["silent"] == json!([]);
        let told = said["refused"]["count"] == 1;
        if known && told {
            Ok(said)
        } else {
            Err(said.to_string())
        }
    });
    let said = said.await.unwrap();
    assert_eq!(said["reached"], false, "{said}");
    assert_eq!(
        said["refused"]["proxies"][0]["id"],
        refusing[0].as_str(),
        "{said}"
    );
    let still = all.refusing().await;
    assert_eq!(still, refusing);

    let (code, text) = meshctl(&format!("rollout abort {at}")).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("rolled back"), "{text}");
    assert_eq!(get(mesh, TAKEN).await.status, 404);
    let (_, text) = meshctl("rollout list").await;
    assert!(text.contains(&at) && text.contains("aborted by"), "{text}");
    reached(mesh, revision(&applied)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_mesh_says_how_changes_are_delivered_that_do_not() {
    let all = Twenty::start("default").await;
    let mesh = &all.edge.mesh;
    let config = "apiVersion: weft.mesh/v1\nkind: MeshConfig\nmetadata: { name: default, namespace: istio-system }\n\
                  spec: { gradualDelivery: { first: 2, rollback: true, deadline: 50s } }\n";
    mesh.apply(config).await.unwrap();
    let path = "/apis/networking.istio.io/v1/namespaces/shop/virtualservices/says";
    let mut object = get(mesh, path).await.ok().unwrap().json().unwrap();
    object["spec"]["http"][0]["directResponse"]["body"]["string"] = json!("gradual");
    let answer = mesh
        .call(reqwest::Method::PUT, path, Some(&object))
        .await
        .unwrap();
    let answer = answer.ok().unwrap();
    assert!(
        answer
            .header("warning")
            .unwrap()
            .contains("2 proxies get it first")
    );
    let put = answer.json().unwrap();
    let read = get(mesh, path).await.json().unwrap();
    assert_eq!(read["spec"], object["spec"]);
    assert_eq!(
        read["metadata"]["resourceVersion"],
        put["metadata"]["resourceVersion"]
    );
    let at = put["metadata"]["resourceVersion"].as_str().unwrap();
    let said = reached(mesh, at).await;
    assert_eq!(
        said["gradual"]["proxies"].as_array().unwrap().len(),
        2,
        "{said}"
    );
    all.all_say("gradual").await;
    let read = get(mesh, path).await.json().unwrap();
    let conditions = read["status"]["conditions"].to_string();
    assert!(!conditions.contains("Delivered"), "{conditions}");

    // What asks for it is delivered at once.
    let answer = apply(mesh, "gradual=false", &says("at-once")).await;
    let applied = answer.ok().unwrap().json().unwrap();
    let said = reached(mesh, revision(&applied)).await;
    assert_eq!(said["gradual"], Value::Null, "{said}");
    all.all_say("at-once").await;
}
