//! Supervision: a service ends in order on a signal, and loudly when one of its tasks ends by itself.

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

/// A supervised task ended by itself.
#[derive(Debug, thiserror::Error)]
#[error("{task} {how}")]
pub struct TaskError {
    task: &'static str,
    how: String,
}

/// The long-lived tasks of a service. When one ends before the shutdown was asked for, all are stopped and the service
/// reports which one it was.
pub struct Tasks {
    set: JoinSet<(&'static str, Result<(), String>)>,
    shutdown: CancellationToken,
}

impl Tasks {
    /// Tasks that end when `shutdown` is cancelled.
    pub fn new(shutdown: CancellationToken) -> Self {
        Self {
            set: JoinSet::new(),
            shutdown,
        }
    }

    /// The token that is cancelled when the service must end.
    pub fn shutdown(&self) -> &CancellationToken {
        &self.shutdown
    }

    /// Runs a task that watches the shutdown token itself and takes the time it needs to end in order.
    pub fn spawn<E: Display>(
        &mut self,
        name: &'static str,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        self.set
            .spawn(async move { (name, task.await.map_err(|error| error.to_string())) });
    }

    /// Runs a task that can be dropped at any await when the shutdown comes.
    pub fn spawn_until_shutdown(
        &mut self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let shutdown = self.shutdown.clone();
        self.set.spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = task => {}
            }
            (name, Ok(()))
        });
    }

    /// Waits until every task has ended.
    ///
    /// # Errors
    /// If a task ended, failed or panicked before the shutdown was asked for.
    pub async fn run(mut self) -> Result<(), TaskError> {
        let mut first = Ok(());
        while let Some(ended) = self.set.join_next().await {
            let (task, how) = match ended {
                Ok((task, Ok(()))) if self.shutdown.is_cancelled() => {
                    info!(task, "stopped");
                    continue;
                }
                Ok((task, Ok(()))) => (task, "ended although nobody asked it to".to_owned()),
                Ok((task, Err(reason))) => (task, format!("failed: {reason}")),
                Err(join) => ("a task", format!("panicked: {join}")),
            };
            error!(task, how, "stopping the service");
            self.shutdown.cancel();
            if first.is_ok() {
                first = Err(TaskError { task, how });
            }
        }
        first
    }
}

/// A token that is cancelled by SIGTERM or SIGINT.
pub fn shutdown_signal() -> CancellationToken {
    let token = CancellationToken::new();
    let cancel = token.clone();
    tokio::spawn(async move {
        let mut term =
            signal(SignalKind::terminate()).expect("a handler for SIGTERM can be installed");
        let mut int =
            signal(SignalKind::interrupt()).expect("a handler for SIGINT can be installed");
        let name = tokio::select! {
            _ = term.recv() => "SIGTERM",
            _ = int.recv() => "SIGINT",
        };
        info!(signal = name, "shutting down");
        cancel.cancel();
    });
    token
}

/// Runs a server that stops accepting when it is told to: until it ended, and no longer than `grace` after the service's
/// end, for watches and slow clients must not keep the process.
///
/// # Errors
/// If it fails, with its error.
pub async fn closed<E>(
    serving: impl Future<Output = Result<(), E>>,
    end: &CancellationToken,
    grace: Duration,
) -> Result<(), E> {
    let over = async {
        end.cancelled().await;
        tokio::time::sleep(grace).await;
    };
    tokio::select! {
        ended = serving => {
            // All connections may have ended before the service does.
            if ended.is_ok() {
                end.cancelled().await;
            }
            ended
        }
        () = over => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn an_unexpected_end_stops_the_others_and_is_named() {
        let mut tasks = Tasks::new(CancellationToken::new());
        let shutdown = tasks.shutdown().clone();
        tasks.spawn::<String>("patient", async move {
            shutdown.cancelled().await;
            Ok(())
        });
        tasks.spawn("faulty", async { Err("no reason") });
        assert_eq!(
            tasks.run().await.unwrap_err().to_string(),
            "faulty failed: no reason"
        );
    }

    #[tokio::test]
    async fn a_shutdown_ends_without_an_error() {
        let shutdown = CancellationToken::new();
        let mut tasks = Tasks::new(shutdown.clone());
        tasks.spawn_until_shutdown("endless", std::future::pending());
        shutdown.cancel();
        tasks.run().await.unwrap();
    }
}
