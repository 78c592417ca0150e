use super::*;
use serde_json::json;

#[test]
fn every_cause_has_its_line() {
    let body = json!({"kind": "Status", "status": "Failure", "reason": "Invalid", "code": 422,
        "message": "VirtualService \"reviews\" is invalid",
        "details": {"causes": [
            {"field": "spec.http[0].route[0].weight", "message": "-1 is negative"},
            {"message": "spec.hosts: is empty", "field": "spec.hosts"}]}});
    let status = Status::of(422, body.to_string().as_bytes());
    assert_eq!(
        status.lines(),
        "VirtualService \"reviews\" is invalid\n  spec.http[0].route[0].weight: -1 is negative\n  spec.hosts: is empty"
    );
}

#[test]
fn a_single_cause_that_the_message_tells_is_not_told_twice() {
    let body = json!({"kind": "Status", "message": "spec.hosts: is empty",
        "details": {"causes": [{"message": "is empty", "field": "spec.hosts"}]}});
    assert_eq!(
        Status::of(422, body.to_string().as_bytes()).lines(),
        "spec.hosts: is empty"
    );
}

#[test]
fn a_body_that_is_no_status_is_shown() {
    assert_eq!(
        Status::of(502, b"<html>bad gateway</html>\n").message,
        "<html>bad gateway</html>"
    );
    assert_eq!(
        Status::of(500, b"").message,
        "the server answered 500 without saying why"
    );
    assert_eq!(
        Status::of(404, b"{\"message\": 3}").message,
        "{\"message\": 3}"
    );
    assert_eq!(Status::of(404, b"{}").code, 404);
}
