//! The commands of the documents, run as their readers would: block by block, in order, against a running stack, and compared
//! with the output that the document shows.
//!
//! A block of commands is fenced as `sh`, with the places it is for after that word (see [`Place`]; none means both stacks). A block
//! `text` right after it is its output: the lines must come in this order, others may come between them, `…` stands for anything
//! and runs of spaces are one. A block with an output is repeated until it shows it, since policy takes a moment to arrive.
//!
//! Commands in prose are held to those blocks ([`not_run`]), and what else documents name to what there is ([`Named`]).
//!
//! *Invariant:* no block of commands is passed over: what is of no known class is an error.

mod blocks;
mod covered;
mod links;
mod named;
mod programs;
mod prose;
mod words;

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use tokio::process::Command;

pub use self::blocks::{Block, Place, blocks};
pub use self::covered::not_run;
pub use self::named::Named;
pub use self::programs::Program;
use crate::binaries;
use crate::run::Run;
use crate::wait;

/// What carries the state of a reader's shell from one block to the next: variables, functions, aliases, the folder.
const SHELL: &str = r#"
set -euo pipefail
shopt -s expand_aliases
exec 2>&1
[ ! -e "$1" ] || source "$1"
source "$2" </dev/null
own='BASH|FUNCNAME|PIPESTATUS|DIRSTACK|GROUPS|S?RANDOM|SECONDS|LINENO|EPOCH|COMP_|HISTCMD|OPT|SHLVL|_='
{
  declare -p | grep -vE "^declare -([a-zA-Z]*r[a-zA-Z]* |[a-zA-Z-]+ ($own))"
  declare -f
  alias -p
  printf 'cd %q\n' "$PWD"
} >"$1.new"
mv "$1.new" "$1"
"#;

/// What makes of a `make` its list of commands.
const DRY: &str = "make() { command make --dry-run \"$@\" >/dev/null; }\n";

/// Where and how commands are run.
pub struct Shell<'a> {
    /// Which blocks are run.
    pub place: Place,
    /// The words before the shell, such as those that enter a namespace.
    pub enter: &'a [String],
    /// The folder that it starts in: the repository's, or a copy of it.
    pub folder: &'a Path,
    /// Variables of its environment.
    pub env: &'a [(&'a str, String)],
    /// Where the state of the shell is kept.
    pub run: &'a Run,
}

impl Shell<'_> {
    /// Runs the blocks of a document that are for this place, and returns how many those were.
    ///
    /// # Errors
    /// If a block fails, or does not show what the document says; the message holds where it is and what it printed.
    pub async fn document(&self, name: &str) -> Result<usize> {
        let path = binaries::repository().join(name);
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let state = format!("{}-{:?}", name.replace('/', "-"), self.place);
        let state = self.run.path(&state);
        let mut count = 0;
        for block in blocks(&text).with_context(|| name.to_owned())? {
            if !block.places.contains(&self.place) {
                continue;
            }
            self.block(&block, &state)
                .await
                .with_context(|| format!("{name}:{}:\n{}", block.line, block.commands))?;
            count += 1;
        }
        Ok(count)
    }

    async fn block(&self, block: &Block, state: &Path) -> Result<()> {
        let once = async || {
            let (ended, output) = self.commands(&block.commands, state).await?;
            if !ended {
                bail!("it failed, and said:\n{output}");
            }
            match blocks::missing(&block.output, &output) {
                None => Ok(()),
                Some(line) => bail!("no line {line:?} where it belongs in:\n{output}"),
            }
        };
        if block.output.is_empty() {
            return once().await;
        }
        wait::until(
            "the output that the document shows",
            4 * wait::PATIENCE,
            once,
        )
        .await
    }

    /// Whether the commands succeeded, and what they printed.
    async fn commands(&self, commands: &str, state: &Path) -> Result<(bool, String)> {
        let block = state.with_extension("block");
        let dry = if self.place == Place::Make { DRY } else { "" };
        std::fs::write(&block, format!("{dry}{commands}"))?;
        let words: Vec<PathBuf> = self.enter.iter().map(PathBuf::from).collect();
        let mut words = words.into_iter().chain(["bash".into(), "-c".into()]);
        let mut command = Command::new(words.next().context("a shell has a name")?);
        command
            .args(words)
            .args([SHELL, "bash"])
            .args([state, &block])
            .current_dir(self.folder)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = command.output().await.context("running bash")?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok((output.status.success(), said))
    }
}
