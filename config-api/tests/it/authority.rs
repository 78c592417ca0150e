//! `/v1/ca`: what is asked for reaches whoever leads the issuers, and the answer comes back. (That the issuer keeps its side is
//! tested there.)

use std::sync::Arc;

use futures::StreamExt;
use model::{AuthorityOutcome, AuthorityRequest, AuthorityStep};
use reqwest::StatusCode;
use serde_json::{Value, json};
use store::memory::MemoryStore;
use store::{Area, Expect, Vault, VaultOp};

use crate::fixture::Api;

const PATH: &str = "/v1/ca";

async fn write(store: &MemoryStore, path: &str, value: &[u8], expect: Expect) {
    let put = VaultOp::Put {
        path: path.into(),
        value: value.into(),
        expect,
    };
    store.write(Area::Ca, vec![put], None).await.unwrap();
}

/// Answers requests as they come; returns what was asked for after so many.
async fn answer(store: Arc<MemoryStore>, outcomes: Vec<AuthorityOutcome>) -> Vec<AuthorityRequest> {
    let mut asked = Vec::new();
    let mut sets = store.follow(Area::Ca).await.unwrap();
    while asked.len() < outcomes.len() {
        let set = sets.next().await.unwrap();
        let mut requests = set.iter().filter(|(path, _)| path.starts_with("requests/"));
        let Some((path, entry)) = requests.next() else {
            continue;
        };
        let request = AuthorityRequest::from_bytes(&entry.value).unwrap();
        if request.outcome.is_some() {
            continue;
        }
        let answered = AuthorityRequest {
            outcome: Some(outcomes[asked.len()].clone()),
            ..request.clone()
        };
        write(
            &store,
            path,
            &answered.to_bytes(),
            Expect::At(entry.revision),
        )
        .await;
        asked.push(request);
    }
    asked
}

#[tokio::test]
async fn the_authority_is_shown_and_asked() {
    let api = Api::start().await;
    for (code, _) in [
        api.get(PATH).await,
        api.post(PATH, &json!({"step": "rotateRoot"})).await,
    ] {
        assert_eq!(code, StatusCode::SERVICE_UNAVAILABLE, "there is none yet");
    }
    let shown = json!({"roots": [{"name": "root-1"}]});
    write(
        &api.store,
        "status.json",
        shown.to_string().as_bytes(),
        Expect::Absent,
    )
    .await;
    assert_eq!(api.get(PATH).await, (StatusCode::OK, shown.clone()));

    let outcomes = vec![
        AuthorityOutcome::Done,
        AuthorityOutcome::Done,
        AuthorityOutcome::Refused("root-0 is no root of this authority".into()),
    ];
    let issuer = tokio::spawn(answer(api.store.clone(), outcomes));
    for step in ["rotateIssuing", "rotateRoot"] {
        let answer = api.post(PATH, &json!({"step": step})).await;
        assert_eq!(answer, (StatusCode::OK, shown.clone()), "{step}");
    }
    let (code, refused) = api
        .post(PATH, &json!({"step": "revokeRoot", "name": "root-0"}))
        .await;
    assert_eq!(code, StatusCode::CONFLICT);
    assert_eq!(refused["message"], "root-0 is no root of this authority");
    let asked = issuer.await.unwrap();
    let steps: Vec<_> = asked.iter().map(|request| request.step.clone()).collect();
    let revoked = AuthorityStep::RevokeRoot("root-0".into());
    assert_eq!(
        steps,
        [
            AuthorityStep::RotateIssuing,
            AuthorityStep::RotateRoot,
            revoked
        ]
    );
    assert!(asked.iter().all(|request| request.who == "anonymous"));
    // Nothing is left behind, except who asked.
    let (_, history) = api.get("/v1/history").await;
    let named = history["changes"].as_array().unwrap().iter();
    let named: Vec<_> = named
        .map(|change| {
            (
                &change["who"],
                &change["deeds"][0]["kind"],
                &change["deeds"][0]["name"],
            )
        })
        .collect();
    let (who, kind) = (json!("anonymous"), json!("AuthorityRequest"));
    let steps = ["revokeRoot root-0", "rotateRoot", "rotateIssuing"].map(Value::from);
    let expected: Vec<_> = steps.iter().map(|step| (&who, &kind, step)).collect();
    assert_eq!(named, expected);
    let left = api.store.read_all(Area::Ca).await.unwrap();
    assert_eq!(
        left.keys().map(|path| &**path).collect::<Vec<_>>(),
        ["status.json"]
    );

    for (body, why) in [
        (json!({}), "step"),
        (json!({"step": "retireRoot"}), "retireRoot"),
        (json!({"step": "revokeRoot"}), "name: missing"),
        (json!({"step": "rotateRoot", "name": "x"}), "leave it out"),
        (json!({"step": "rotateRoot", "more": 1}), "more"),
        (Value::Null, "null"),
    ] {
        let (code, refused) = api.post(PATH, &body).await;
        assert_eq!(code, StatusCode::BAD_REQUEST, "{body}: {refused}");
        assert!(
            refused["message"].as_str().unwrap().contains(why),
            "{refused}"
        );
    }
    assert_eq!(api.store.read_all(Area::Ca).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_request_that_nobody_takes_up_is_withdrawn() {
    let api = Api::start().await;
    write(&api.store, "status.json", b"{}", Expect::Absent).await;
    let (code, refused) = api.post(PATH, &json!({"step": "rotateRoot"})).await;
    assert_eq!(code, StatusCode::SERVICE_UNAVAILABLE);
    assert!(
        refused["message"].as_str().unwrap().contains("withdrawn"),
        "{refused}"
    );
    assert_eq!(api.store.read_all(Area::Ca).await.unwrap().len(), 1);
}
