//! Requests that try to get past a policy by what they say of the path, the host, themselves and their peers.

use super::super::client::Sent;

pub(super) fn paths() -> Vec<Sent> {
    const WAYS: [&str; 62] = [
        "/admin",
        "//admin",
        "///admin",
        "/./admin",
        "/x/../admin",
        "/%61dmin",
        "/admi%6e",
        "/%61%64%6d%69%6e",
        "/%2fadmin",
        "/%2Fadmin",
        "/x%2f..%2fadmin",
        "/x/%2e%2e/admin",
        "/x/.%2e/admin",
        "/x/%2E./admin",
        "/\\admin",
        "/x\\..\\admin",
        "/%5cadmin",
        "/x%5c..%5cadmin",
        "/x%5C%2e%2e%5Cadmin",
        "/admin;v=1",
        "/admin;",
        "/admin;a;b=c",
        "/;/admin",
        "/;a=b/admin",
        "/x/..;/admin",
        "/x/.;/../admin",
        "/x/..;a=b/admin",
        "/x/y/..;/..;/admin",
        "/.;/admin",
        "/admin%3bv",
        "/x/..%3b/admin",
        "/admin%3Fx",
        "/admin%23x",
        "/admin%00",
        "/admin%00/x",
        "/admin/",
        "/admin//",
        "/admin/.",
        "/admin/x/..",
        "/admin/../admin",
        "/admin/..;/admin",
        "//./admin/.//",
        "/public/../admin",
        "/public/..;/admin",
        "/public/%2e%2e/admin",
        "/public/..%2fadmin",
        "/public/%2e%2e%2fadmin",
        "/public//../admin",
        "/public//..//../admin",
        "/public\\..\\admin",
        "/public/..\\admin",
        "/public/..%5cadmin",
        "/public/x/../../admin",
        "/public/;/../../admin",
        "/public/%252e%252e/admin",
        "/public/..%252fadmin",
        "/public/%c0%ae%c0%ae/admin",
        "/public/.../admin",
        "/public;/../admin",
        "/public/*/../../admin",
        "/public/%2e%2e;/admin",
        "/public/%2e%2e%3b/admin",
    ];
    let tails = ["", "/x", "?next=/public/x", "/x;y?/public"];
    let mut corpus: Vec<Sent> = WAYS
        .iter()
        .flat_map(|way| tails.map(|tail| Sent::get(format!("{way}{tail}"))))
        .collect();
    for path in ["/admin", "//admin", "/x/../admin", "/public/..;/admin"] {
        corpus.push(Sent::get(format!("http://shop.example{path}")));
        corpus.push(
            Sent::get("/public/x")
                .with("x-original-url", path)
                .with("x-envoy-original-path", path),
        );
    }
    corpus
}

pub(super) fn hosts() -> Vec<Sent> {
    let names = [
        "admin.example",
        "ADMIN.example",
        "Admin.EXAMPLE",
        "admin.example.",
        "admin.example:80",
        "admin.example:8443",
        "admin.example.:80",
        "ADMIN.example.:1",
        "admin.example:",
        "user@admin.example",
        "user:pw@admin.example",
        "user@admin.example:80",
        "shop.example@admin.example",
        "admin.example,shop.example",
        "shop.example,admin.example",
        "admin.example:80:80",
        "admin.example#shop.example",
        "admin.example/shop.example",
        "admin.example?shop.example",
        "shop.example#@admin.example",
        "shop.example:80@admin.example",
        "[admin.example]",
        "admin%2eexample",
    ];
    let mut corpus: Vec<Sent> = names
        .iter()
        .map(|name| Sent::get("/x").host(name))
        .collect();
    for name in ["admin.example", "ADMIN.example.:80"] {
        corpus.push(Sent::get("/x").with("host", name));
        corpus.push(
            Sent::get("/x")
                .with("x-forwarded-host", name)
                .with("forwarded", format!("host={name}")),
        );
        corpus.push(Sent::get(format!("http://{name}/x")));
    }
    corpus
}

/// A role said once, several times, and in one value.
pub(super) fn roles() -> Vec<Sent> {
    let lists: [&[&str]; 24] = [
        &["user"],
        &["adm", "user"],
        &["user", "min"],
        &["adm", "min"],
        &["admin", "user", "admin"],
        &["admin", " user"],
        &["admin", "user "],
        &["admin", ""],
        &["admin", "admin", "user"],
        &["admin;q=1", "user"],
        &["admin ,user"],
        &["user", ",admin"],
        &["admin,", "user"],
        &["Admin", "admin"],
        &["admin"],
        &["user", "admin"],
        &["admin", "user"],
        &["user, admin"],
        &["admin,user"],
        &["admin "],
        &["", "admin"],
        &["admin", "admin"],
        &["user,admin,guest"],
        &["user\t,\tadmin"],
    ];
    let sent = lists.iter().map(|list| {
        list.iter()
            .fold(Sent::get("/x"), |sent, value| sent.with("x-role", *value))
    });
    sent.collect()
}

/// Claims of a client's address.
pub(super) fn addresses() -> Vec<Sent> {
    [
        "10.0.0.1",
        "10.0.0.1, 10.0.0.2",
        "10.0.0.1,127.0.0.1",
        "::ffff:10.0.0.1",
        "unknown",
    ]
    .iter()
    .flat_map(|ip| {
        let names = [
            "x-forwarded-for",
            "x-real-ip",
            "x-envoy-external-address",
            "true-client-ip",
            "forwarded",
        ];
        let one = names.map(|name| Sent::get("/x").with(name, *ip));
        one.into_iter().chain([Sent::get("/x")
            .with("x-forwarded-for", *ip)
            .with("x-forwarded-for", *ip)])
    })
    .collect()
}

/// Claims of a peer's identity.
pub(super) fn peers() -> Vec<Sent> {
    let id = "spiffe://cluster.local/ns/shop/sa/admin";
    [
        format!("URI={id}"),
        format!("By={id};Hash=0;Subject=\"\";URI={id}"),
        id.into(),
    ]
    .into_iter()
    .map(|value| {
        Sent::get("/x")
            .with("x-forwarded-client-cert", value)
            .with("x-envoy-peer-metadata-id", "shop")
    })
    .collect()
}
