//! Reading the files, folders and standard input that `-f` names.
//!
//! *Invariant:* nothing here parses; [`crate::manifest`] does.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// A file that cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It does not exist, is not readable, or is not UTF-8.
    #[error("cannot read {name}")]
    Read {
        name: String,
        #[source]
        source: io::Error,
    },
    /// A folder without manifests.
    #[error("{0} holds no .yaml, .yml or .json file")]
    Empty(String),
}

/// A text and where it came from, for messages.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Text {
    pub(crate) name: String,
    pub(crate) text: String,
}

/// The texts that `-f` arguments name: `-` is standard input; a folder means its `.yaml`, `.yml` and `.json` files at any
/// depth, in the order of their paths. Hidden files and folders are left alone.
///
/// # Errors
/// If one cannot be read, or a folder holds no manifest.
pub(crate) fn read(arguments: &[PathBuf]) -> Result<Vec<Text>, Error> {
    let mut texts = Vec::new();
    for argument in arguments {
        if argument.as_os_str() == "-" {
            let mut text = String::new();
            let name = "standard input".to_owned();
            io::stdin()
                .read_to_string(&mut text)
                .map_err(|source| Error::Read {
                    name: name.clone(),
                    source,
                })?;
            texts.push(Text { name, text });
            continue;
        }
        let mut files = Vec::new();
        collect(argument, true, &mut files)?;
        if files.is_empty() {
            return Err(Error::Empty(argument.display().to_string()));
        }
        for file in files {
            let text = fs::read_to_string(&file).map_err(|e| unreadable(&file, e))?;
            texts.push(Text {
                name: file.display().to_string(),
                text,
            });
        }
    }
    Ok(texts)
}

fn collect(path: &Path, named: bool, files: &mut Vec<PathBuf>) -> Result<(), Error> {
    if fs::metadata(path)
        .map_err(|e| unreadable(path, e))?
        .is_dir()
    {
        let entries = fs::read_dir(path).and_then(|d| {
            d.map(|e| e.map(|e| e.path()))
                .collect::<io::Result<Vec<_>>>()
        });
        let mut entries = entries.map_err(|e| unreadable(path, e))?;
        entries.sort();
        for entry in entries {
            let hidden = entry
                .file_name()
                .is_some_and(|n| n.to_string_lossy().starts_with('.'));
            if !hidden {
                collect(&entry, false, files)?;
            }
        }
    } else if named
        || path
            .extension()
            .is_some_and(|e| e == "yaml" || e == "yml" || e == "json")
    {
        files.push(path.to_owned());
    }
    Ok(())
}

fn unreadable(path: &Path, source: io::Error) -> Error {
    Error::Read {
        name: path.display().to_string(),
        source,
    }
}

#[cfg(test)]
mod tests;
