//! PEM (RFC 7468), read strictly: blocks, and nothing between them but blank lines and comments that begin with `#`.
//!
//! *Invariant:* no error quotes what it stumbles over, for it may be a key.

#[cfg(test)]
mod tests;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// A block.
pub(crate) struct Block {
    /// What it says it holds, such as `CERTIFICATE`.
    pub(crate) label: String,
    /// What it holds.
    pub(crate) der: Zeroizing<Vec<u8>>,
}

/// The most blocks of one text.
const MOST: usize = 1000;

/// The blocks of a text, of which there must be at least one.
///
/// # Errors
/// What is wrong, and the way out.
pub(crate) fn blocks(text: &str) -> Result<Vec<Block>, String> {
    let mut blocks = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let label = line.strip_prefix("-----BEGIN ");
        let Some(label) = label.and_then(|rest| rest.strip_suffix("-----")) else {
            return Err(format!(
                "line {} is outside of PEM blocks; keep only what is from -----BEGIN …----- to -----END …-----",
                at + 1
            ));
        };
        let end = format!("-----END {label}-----");
        let mut body = Zeroizing::new(String::with_capacity(text.len()));
        let closed = lines.by_ref().any(|(_, line)| {
            let ends = line.trim() == end;
            if !ends {
                body.push_str(line.trim());
            }
            ends
        });
        if !closed {
            return Err(format!("the PEM block of line {} has no end", at + 1));
        }
        let der = STANDARD.decode(body.as_bytes()).map_err(|_| {
            let hint = match body.contains("ENCRYPTED") {
                true => "; it is encrypted: decrypt it with `openssl pkey`",
                false => "",
            };
            format!("the PEM block of line {} is not base64{hint}", at + 1)
        })?;
        blocks.push(Block {
            label: label.to_owned(),
            der: Zeroizing::new(der),
        });
        if blocks.len() > MOST {
            return Err(format!("has more than {MOST} PEM blocks"));
        }
    }
    if blocks.is_empty() {
        return Err("has no PEM block: it begins with -----BEGIN …-----".into());
    }
    Ok(blocks)
}
