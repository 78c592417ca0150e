//! The Dockerfile compiles: dependencies in a layer that a change of our sources keeps, by what `Cargo.lock` says, into small images
//! that start.
//!
//! That takes as long as compiling everything does, so it runs only where `WEFT_DOCKER_COMPILE` names a profile (`release` or `dev`).

use weft_tests::skip::skip;

use super::engine::{BUILDING, Engine};

/// The images, and what of each is run to see that its program starts there.
const IMAGES: [(&str, &str); 4] = [
    ("config-api", "config-api"),
    ("xds-pusher", "xds-pusher"),
    ("cert-issuer", "cert-issuer"),
    ("meshctl", "meshctl"),
];

/// What a release image may have on top of the Debian it starts from.
const MEGABYTES: u64 = 60;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_are_compiled_from_a_clean_copy() {
    let Ok(profile) = std::env::var("WEFT_DOCKER_COMPILE") else {
        skip("not asked for: WEFT_DOCKER_COMPILE=release compiles everything once more");
        return;
    };
    let Some(engine) = Engine::start_or_say().await else {
        return;
    };
    engine.stand_ins("--compile").await;
    let build = format!("docker build --build-arg PROFILE={profile} --target");
    let build = async |target: &str| {
        let all = format!("{build} {target} --tag compiled/{target} .");
        let words: Vec<&str> = all.split_whitespace().collect();
        engine.command(&words, BUILDING * 16).await
    };

    // What Cargo.lock does not have is refused, before anything is compiled.
    let manifest = engine.source.join("meshctl/Cargo.toml");
    let good = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(
        &manifest,
        good.replace("[dependencies]", "[dependencies]\ncc = \"=0.0.1\""),
    )
    .unwrap();
    let refused = format!("{:#}", build("build").await.unwrap_err());
    assert!(refused.contains("--locked"), "{refused}");
    std::fs::write(&manifest, good).unwrap();

    let start = std::time::Instant::now();
    build("build").await.unwrap();
    eprintln!("{profile}: everything in {:?}", start.elapsed());
    let source = engine.source.join("meshctl/src/main.rs");
    let text = std::fs::read_to_string(&source).unwrap();
    std::fs::write(&source, text + "// Another version.\n").unwrap();
    let start = std::time::Instant::now();
    let again = build("build").await.unwrap();
    eprintln!(
        "{profile}: after a change of sources in {:?}",
        start.elapsed()
    );
    let mut lines = again
        .lines()
        .skip_while(|line| !line.contains(" : RUN cargo build"));
    assert_eq!(
        lines.nth(1).map(str::trim),
        Some("---> Using cache"),
        "{again}"
    );
    let foreign = |line: &&str| line.contains("Compiling") && !line.contains("(/src/");
    assert_eq!(
        lines.find(foreign),
        None,
        "a dependency was compiled once more"
    );

    let size = async |image: &str| {
        let size = engine
            .docker(&format!("image inspect --format {{{{.Size}}}} {image}"))
            .await;
        size.unwrap().trim().parse::<u64>().unwrap() / 1_000_000
    };
    let base = size("debian:bookworm-slim").await;
    for (target, program) in IMAGES {
        build(target).await.unwrap();
        let run = format!("run --rm --entrypoint {program} compiled/{target} --version");
        let version = engine.docker(&run).await.unwrap();
        assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
        let own = size(&format!("compiled/{target}")).await - base;
        eprintln!("{profile}: {target} adds {own} MB to {base} MB");
        assert!(
            profile != "release" || own <= MEGABYTES,
            "{target} adds {own} MB"
        );
    }
    engine.stop().await;
}
