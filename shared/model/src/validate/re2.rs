//! Regular expressions as Envoy's RE2 reads them: the grammar it shares with Rust's, and how large they become.
//!
//! Sources: RE2's syntax page (github.com/google/re2/wiki/Syntax); Envoy's `re2.max_program_size.error_level`, above which it
//! refuses the configuration.
//!
//! *Invariant:* what is taken here is taken by RE2; some of what RE2 takes (`\C`, `\Q`, octal numbers) is not taken here.

use regex_syntax::ast::{
    Ast, ClassPerlKind, ClassSet, ClassSetItem, Flag, Flags, FlagsItemKind, GroupKind,
    HexLiteralKind, Literal, LiteralKind, Repetition, RepetitionKind, RepetitionRange,
    parse::ParserBuilder,
};

/// How large an expression's RE2 program may become. Envoy takes no more than 100 unless its runtime says so under
/// [`RUNTIME_KEY`], which every bootstrap must.
pub const PROGRAM_SIZE: u32 = 32_768;
/// Envoy's runtime key for [`PROGRAM_SIZE`].
pub const RUNTIME_KEY: &str = "re2.max_program_size.error_level";
/// How often RE2 repeats something at most, repetitions in repetitions taken together.
const REPEATED: u64 = 1000;
/// How deep groups and classes may stand in one another.
const DEPTH: u32 = 100;

/// A regular expression that RE2 reads and that does not grow without measure.
pub(super) fn regex(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("must not be empty".into());
    }
    let no = |reason: &str| format!("is not an RE2 regular expression: {reason}");
    let ast = ParserBuilder::new().nest_limit(DEPTH).build().parse(text);
    let ast = ast.map_err(|error| no(&error.kind().to_string()))?;
    let walk = Walk {
        text,
        folds: text
            .split("(?")
            .skip(1)
            .filter_map(|rest| rest.split([':', ')', '<']).next())
            .any(|flags| flags.contains('i')),
    };
    match walk.size(&ast, 1) {
        Err(reason) => Err(no(reason)),
        Ok(size) if size > u64::from(PROGRAM_SIZE) => {
            Err("is too large a regular expression; make it shorter".into())
        }
        Ok(_) => Ok(()),
    }
}

const PROPERTY: &str = "Envoy matches bytes, so characters cannot be told by \\p";
const CLASS: &str = "Envoy matches bytes, so a class must be of ASCII characters; write (?:é|ü)";

struct Walk<'a> {
    text: &'a str,
    /// Whether letters may stand for others.
    folds: bool,
}

impl Walk<'_> {
    /// At most how many instructions an expression becomes. `times`: how often what it stands in is repeated.
    fn size(&self, ast: &Ast, times: u64) -> Result<u64, &'static str> {
        let all = |these: &[Ast]| {
            let sizes = these.iter().map(|it| self.size(it, times));
            sizes.sum::<Result<u64, _>>()
        };
        Ok(match ast {
            Ast::Empty(_) => 1,
            Ast::Flags(it) => flags(&it.flags).map(|()| 1)?,
            Ast::Literal(it) => self.literal(it)?,
            // Any code point, byte by byte.
            Ast::Dot(_) => 12,
            Ast::Assertion(it) => {
                use regex_syntax::ast::AssertionKind::{
                    EndLine, EndText, NotWordBoundary, StartLine, StartText, WordBoundary,
                };
                match it.kind {
                    StartLine | EndLine | StartText | EndText | WordBoundary | NotWordBoundary => 1,
                    _ => return Err("write \\b for the boundaries of words"),
                }
            }
            Ast::ClassUnicode(_) => return Err(PROPERTY),
            Ast::ClassPerl(it) => perl(&it.kind, it.negated),
            Ast::ClassBracketed(it) => {
                let ClassSet::Item(item) = &it.kind else {
                    return Err("a class cannot be taken from another (&&, --, ~~)");
                };
                self.item(item)? + if it.negated { 16 } else { 1 }
            }
            Ast::Repetition(it) => self.repetition(it, times)?,
            Ast::Group(it) => {
                match &it.kind {
                    GroupKind::NonCapturing(of) => flags(of)?,
                    GroupKind::CaptureName { name, .. } if !is_word(&name.name) => {
                        return Err("the name of a group must be letters, digits and underscores");
                    }
                    _ => {}
                }
                self.size(&it.ast, times)?.saturating_add(2)
            }
            Ast::Alternation(it) => all(&it.asts)?.saturating_add(it.asts.len() as u64),
            Ast::Concat(it) => all(&it.asts)?,
        })
    }

    fn repetition(&self, it: &Repetition, times: u64) -> Result<u64, &'static str> {
        if matches!(*it.ast, Ast::Repetition(_)) {
            return Err("a repetition cannot be repeated without a group");
        }
        let count = match &it.op.kind {
            RepetitionKind::Range(range) => {
                let written = &self.text[it.op.span.start.offset..it.op.span.end.offset];
                let inner = written.trim_end_matches('?');
                let inner = inner.strip_prefix('{').and_then(|it| it.strip_suffix('}'));
                let plain = |b: u8| b.is_ascii_digit() || b == b',';
                if !inner.is_some_and(|it| !it.starts_with(',') && it.bytes().all(plain)) {
                    return Err("a repetition must be written {n}, {n,} or {n,m}");
                }
                match *range {
                    RepetitionRange::Exactly(n) | RepetitionRange::Bounded(_, n) => u64::from(n),
                    RepetitionRange::AtLeast(n) => u64::from(n).saturating_add(1),
                }
            }
            _ => 1,
        };
        let times = times.saturating_mul(count.max(1));
        if times > REPEATED {
            return Err("nothing can be repeated more than 1000 times");
        }
        if matches!(&*it.ast, Ast::Literal(it) if !it.c.is_ascii()) {
            return Err(
                "Envoy matches bytes, so a character beyond ASCII cannot be repeated without a group",
            );
        }
        let once = self.size(&it.ast, times)?.saturating_add(2);
        Ok(once.saturating_mul(count.max(1)))
    }

    fn literal(&self, it: &Literal) -> Result<u64, &'static str> {
        match it.kind {
            LiteralKind::HexFixed(HexLiteralKind::X) | LiteralKind::HexBrace(HexLiteralKind::X)
                if it.c.is_ascii() => {}
            LiteralKind::HexFixed(_) | LiteralKind::HexBrace(_) => {
                return Err("write \\x7f for a byte by its number");
            }
            _ => {}
        }
        Ok(if self.folds {
            8
        } else {
            it.c.len_utf8() as u64
        })
    }

    fn item(&self, item: &ClassSetItem) -> Result<u64, &'static str> {
        Ok(match item {
            ClassSetItem::Empty(_) => 1,
            ClassSetItem::Literal(it) if it.c.is_ascii() => self.literal(it)?,
            ClassSetItem::Range(it) if it.end.c.is_ascii() => {
                self.literal(&it.start)? + self.literal(&it.end)?
            }
            ClassSetItem::Literal(_) | ClassSetItem::Range(_) => return Err(CLASS),
            ClassSetItem::Ascii(it) => {
                if it.negated {
                    32
                } else {
                    16
                }
            }
            ClassSetItem::Unicode(_) => return Err(PROPERTY),
            ClassSetItem::Perl(it) => perl(&it.kind, it.negated),
            ClassSetItem::Bracketed(_) => return Err("a class cannot stand in another; write \\["),
            ClassSetItem::Union(it) => {
                let sizes = it.items.iter().map(|it| self.item(it));
                sizes.sum::<Result<u64, _>>()?
            }
        })
    }
}

fn flags(flags: &Flags) -> Result<(), &'static str> {
    let known = flags.items.iter().all(|it| match it.kind {
        FlagsItemKind::Negation => true,
        FlagsItemKind::Flag(flag) => matches!(
            flag,
            Flag::CaseInsensitive | Flag::MultiLine | Flag::DotMatchesNewLine | Flag::SwapGreed
        ),
    });
    if known {
        Ok(())
    } else {
        Err("the flags are i, m, s and U")
    }
}

fn perl(kind: &ClassPerlKind, negated: bool) -> u64 {
    match (kind, negated) {
        (_, true) => 24,
        (ClassPerlKind::Digit, _) => 1,
        (ClassPerlKind::Space | ClassPerlKind::Word, _) => 8,
    }
}

fn is_word(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}
