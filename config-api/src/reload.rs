//! Values that are made of files, and made anew when the files change.
//!
//! *Invariant:* a file that cannot be read or understood changes nothing: what was read before stays in force, and readiness
//! says so.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use ring::digest::{Context, SHA256};
use telemetry::Check;
use tracing::{info, warn};

/// How often files are looked at.
const EVERY: Duration = Duration::from_secs(1);

type Make<T> = Box<dyn Fn(&[Vec<u8>]) -> Result<T, String> + Send + Sync>;

/// A value that is made of the contents of files.
pub(crate) struct Reloaded<T> {
    what: &'static str,
    paths: Vec<PathBuf>,
    make: Make<T>,
    now: ArcSwap<T>,
    /// The digest of what was read last, good or bad: the contents may be secret, and are not kept.
    seen: Mutex<Vec<u8>>,
}

impl<T: Send + Sync + 'static> Reloaded<T> {
    /// Reads the files and makes the value of their contents, in the order of `paths`.
    ///
    /// # Errors
    /// If a file cannot be read, or `make` refuses: which files, and why.
    pub(crate) fn open(
        what: &'static str,
        paths: Vec<PathBuf>,
        make: impl Fn(&[Vec<u8>]) -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<Arc<Self>, String> {
        let contents = read(&paths)?;
        let value = make(&contents).map_err(|why| format!("{}: {why}", names(&paths)))?;
        Ok(Arc::new(Self {
            what,
            paths,
            make: Box::new(make),
            now: ArcSwap::from_pointee(value),
            seen: Mutex::new(digest(&contents)),
        }))
    }

    /// The value of now.
    pub(crate) fn get(&self) -> Arc<T> {
        self.now.load_full()
    }

    /// Looks at the files for ever.
    pub(crate) async fn follow(self: Arc<Self>, check: Check) {
        check.ok();
        loop {
            tokio::time::sleep(EVERY).await;
            let own = self.clone();
            // Files may be on a disk that is slow to answer.
            let looked = tokio::task::spawn_blocking(move || own.look()).await;
            match looked.unwrap_or_else(|error| Err(error.to_string())) {
                Ok(false) => {}
                Ok(true) => {
                    info!(files = names(&self.paths), "{} were read anew", self.what);
                    check.ok();
                }
                Err(why) => {
                    warn!(%why, "{} cannot be read anew", self.what);
                    check.degraded(format!("{why}; what was read before stays in force"));
                }
            }
        }
    }

    /// Whether there was something new, and it is in force now.
    fn look(&self) -> Result<bool, String> {
        let contents = read(&self.paths)?;
        let digest = digest(&contents);
        {
            let mut seen = (self.seen.lock()).expect("no code panics while it holds this lock");
            if *seen == digest {
                return Ok(false);
            }
            *seen = digest;
        }
        let value =
            (self.make)(&contents).map_err(|why| format!("{}: {why}", names(&self.paths)))?;
        self.now.store(Arc::new(value));
        Ok(true)
    }
}

fn read(paths: &[PathBuf]) -> Result<Vec<Vec<u8>>, String> {
    let read = |path: &PathBuf| {
        std::fs::read(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))
    };
    paths.iter().map(read).collect()
}

fn names(paths: &[PathBuf]) -> String {
    let names: Vec<String> = paths.iter().map(|p| p.display().to_string()).collect();
    names.join(", ")
}

fn digest(contents: &[Vec<u8>]) -> Vec<u8> {
    let mut digest = Context::new(&SHA256);
    for content in contents {
        digest.update(&(content.len() as u64).to_le_bytes());
        digest.update(content);
    }
    digest.finish().as_ref().to_vec()
}
