#![allow(clippy::unwrap_used)]
use super::*;
use axum::Router;
use axum::http::{HeaderMap as Headers, StatusCode, Uri};
use axum::routing::{any, get};

/// A server on a free port; it ends with the test.
async fn serve(router: Router) -> String {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

fn client(server: &str) -> Client {
    patient(server, Duration::from_secs(90))
}

fn patient(server: &str, timeout: Duration) -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::new(server, timeout, &Credentials::default()).unwrap()
}

async fn error(router: Router) -> (String, bool) {
    let server = serve(router).await;
    let error = client(&server)
        .send(Request::get(&["x"]))
        .await
        .unwrap_err();
    (
        error.to_string().replace(&server, "SERVER"),
        error.is_unavailable(),
    )
}

#[tokio::test]
async fn segments_are_escaped_and_the_base_path_is_kept() {
    let echo = any(|uri: Uri, headers: Headers| async move {
        axum::Json(format!("{uri} {:?}", headers["accept"]))
    });
    let server = serve(Router::new().fallback(echo)).await;
    let request =
        Request::get(&["v1", "a b", "c/d", "sidecar~x~y"]).with("labelSelector", "a=b,c!=d");
    let answer = client(&format!("{server}/base/"))
        .send(request)
        .await
        .unwrap();
    assert_eq!(
        answer.body,
        r#"/base/v1/a%20b/c%2Fd/sidecar~x~y?labelSelector=a%3Db%2Cc%21%3Dd "application/json""#
    );
}

#[tokio::test]
async fn a_refusal_carries_its_status_and_only_server_faults_count_as_unavailable() {
    let body = r#"{"kind":"Status","message":"spec.hosts: is empty","code":422}"#;
    let of = |code: StatusCode| error(Router::new().fallback(move || async move { (code, body) }));
    assert_eq!(
        of(StatusCode::UNPROCESSABLE_ENTITY).await,
        ("spec.hosts: is empty".into(), false)
    );
    assert_eq!(
        of(StatusCode::SERVICE_UNAVAILABLE).await,
        ("spec.hosts: is empty".into(), true)
    );
}

#[tokio::test]
async fn no_answer_in_time_says_what_to_do() {
    let server = serve(Router::new().fallback(std::future::pending::<()>)).await;
    let error = patient(&server, Duration::from_millis(300))
        .send(Request::get(&["x"]))
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string().replace(&server, "SERVER"),
        "the server at SERVER did not answer within 0.3 s; it may still have done what was asked. \
         Wait longer with --request-timeout or WEFT_REQUEST_TIMEOUT"
    );
    assert!(error.is_unavailable());
}

#[tokio::test]
async fn another_server_is_recognised() {
    let (message, unavailable) = error(Router::new().fallback(|| async { "<html>" })).await;
    assert_eq!(
        message,
        "SERVER/x did not answer with JSON (expected value at line 1 column 1); is it a config-api? \
         Another address: --server URL or WEFT_SERVER=URL"
    );
    assert!(unavailable);
}

#[tokio::test]
async fn nobody_there_says_where_and_which_flag() {
    let server = "http://127.0.0.1:1";
    let error = client(server).send(Request::get(&["x"])).await.unwrap_err();
    assert_eq!(
        error.to_string().replace(server, "SERVER"),
        "cannot reach the server at SERVER (Connection refused (os error 111))\n\
         Is config-api running there? Another address: --server URL or WEFT_SERVER=URL"
    );
    assert!(error.is_unavailable());
}

#[test]
fn a_server_is_a_url_with_or_without_scheme() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let server = |text| {
        Client::new(text, Duration::from_secs(1), &Credentials::default())
            .map(|c| c.server().to_owned())
    };
    assert_eq!(server("127.0.0.1:8080").unwrap(), "http://127.0.0.1:8080");
    assert_eq!(
        server("https://mesh.example/api/").unwrap(),
        "https://mesh.example/api"
    );
    for text in ["", "ftp://x", "http://", "a b"] {
        assert!(
            server(text)
                .unwrap_err()
                .to_string()
                .contains("--server or WEFT_SERVER"),
            "{text}"
        );
    }
}

#[test]
fn warnings_are_unescaped() {
    let mut headers = HeaderMap::new();
    headers.append(
        "warning",
        r#"299 - "unknown subset \"v9\" \\ check""#.parse().unwrap(),
    );
    headers.append("warning", "odd".parse().unwrap());
    assert_eq!(
        warnings(&headers),
        [r#"unknown subset "v9" \ check"#, "odd"]
    );
}

#[tokio::test]
async fn a_watch_is_read_line_by_line_however_it_is_cut() {
    let chunks = [
        "{\"type\":\"AD",
        "DED\"}\n\n{\"type\":",
        "\"DELETED\"}\n{\"type\":\"BOOKMARK\"}\n",
    ];
    let body = move || async move {
        axum::body::Body::from_stream(tokio_stream::iter(
            chunks.map(Ok::<_, std::convert::Infallible>),
        ))
    };
    let server = serve(Router::new().route("/w", get(body))).await;
    let client = client(&server);
    let mut watch = client.watch(Request::get(&["w"])).await.unwrap();
    let mut types = Vec::new();
    while let Some(event) = watch.next().await.unwrap() {
        types.push(event["type"].as_str().unwrap().to_owned());
    }
    assert_eq!(types, ["ADDED", "DELETED", "BOOKMARK"]);
}

#[tokio::test]
async fn the_token_is_sent_and_an_unknown_caller_is_told_what_was_sent() {
    let echo = any(|headers: Headers| async move {
        let status = match headers.get("authorization") {
            Some(token) if token == "Bearer s3cret" => StatusCode::OK,
            _ => StatusCode::UNAUTHORIZED,
        };
        (
            status,
            r#"{"kind":"Status","message":"Unauthorized: it is not known","code":401}"#,
        )
    });
    let server = serve(Router::new().fallback(echo)).await;
    let by = |token: Option<&str>| {
        let flags = credentials::Flags {
            token: token.map(str::to_owned),
            ..Default::default()
        };
        let credentials = Credentials::read(&flags).unwrap();
        Client::new(&server, Duration::from_secs(30), &credentials).unwrap()
    };
    let ask = || Request::get(&["x"]);
    assert!(by(Some("s3cret")).send(ask()).await.is_ok());
    for (token, sent) in [(None, "no credentials"), (Some("wrong"), "a token")] {
        let error = by(token).send(ask()).await.unwrap_err();
        assert!(!error.is_unavailable());
        let error = error.to_string();
        assert!(
            error.starts_with("Unauthorized: it is not known\nmeshctl sent "),
            "{error}"
        );
        assert!(
            error.contains(sent) && error.contains("--token-file") && !error.contains("wrong"),
            "{error}"
        );
    }
}
