//! The commands in a piece of shell as words: enough of its grammar for what documents show.
//!
//! *Invariant:* nothing is expanded; what a substitution would become is `…`.

use super::blocks::ANYTHING;

/// Words that may stand before a command and are not part of it.
const BEFORE: [&str; 12] = [
    "sudo", "!", "{", "}", "do", "then", "else", "if", "while", "exec", "env", "time",
];

/// The commands of a text, those in substitutions included, each as its words: the program first, without variables or `sudo`
/// before it.
pub(super) fn commands(text: &str) -> Vec<Vec<String>> {
    let mut reader = Reader {
        text: text.chars().collect(),
        at: 0,
        found: Vec::new(),
    };
    // A `)` of no list, as in `name() {`, ends nothing.
    while reader.list() {}
    reader.found
}

struct Reader {
    text: Vec<char>,
    at: usize,
    found: Vec<Vec<String>>,
}

/// A command that is being read.
#[derive(Default)]
struct Command {
    words: Vec<String>,
    /// The last word, while it goes on.
    word: Option<String>,
}

impl Command {
    fn push(&mut self, c: char) {
        self.text(c.encode_utf8(&mut [0; 4]));
    }

    fn text(&mut self, text: &str) {
        self.word.get_or_insert_default().push_str(text);
    }

    fn space(&mut self) {
        self.words.extend(self.word.take());
    }

    /// The command up to here.
    fn end(&mut self) -> Option<Vec<String>> {
        self.space();
        let words = std::mem::take(&mut self.words).into_iter();
        let words: Vec<_> = words
            .skip_while(|word| BEFORE.contains(&&**word) || assigns(word))
            .collect();
        (!words.is_empty()).then_some(words)
    }
}

impl Reader {
    fn peek(&self) -> Option<char> {
        self.text.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek();
        self.at += usize::from(next.is_some());
        next
    }

    /// Whether this comes next; reads past it.
    fn skip(&mut self, expected: &str) -> bool {
        let expected: Vec<char> = expected.chars().collect();
        let comes = self.text[self.at..].starts_with(&expected);
        self.at += if comes { expected.len() } else { 0 };
        comes
    }

    /// What comes before the next of this, and past that.
    fn until(&mut self, end: char) -> String {
        let read: String = self.text[self.at..]
            .iter()
            .take_while(|c| **c != end)
            .collect();
        self.at = (self.at + read.chars().count() + 1).min(self.text.len());
        read
    }

    /// Reads a list of commands, up to the end of the text or the `)` that ends it: whether it was that.
    fn list(&mut self) -> bool {
        let mut command = Command::default();
        // Where the documents end that begin on the next line (`<<EOF`).
        let mut documents = Vec::new();
        while let Some(c) = self.next() {
            match c {
                '\\' => match self.next() {
                    None | Some('\n') => {}
                    Some(c) => command.push(c),
                },
                '\'' => command.text(&self.until('\'')),
                '"' => self.quoted(&mut command),
                '$' if self.skip("(") => {
                    self.list();
                    command.push(ANYTHING);
                }
                '#' if command.word.is_none() => {
                    self.until('\n');
                    self.at -= usize::from(self.at < self.text.len());
                }
                '<' if !self.skip("<<") && self.skip("<") => {
                    let end = self.text[self.at..].iter();
                    let end: String = end.take_while(|c| !c.is_whitespace()).collect();
                    self.at += end.chars().count();
                    documents.push(end.trim_matches(['\'', '"', '-']).to_owned());
                }
                '&' if command
                    .word
                    .as_ref()
                    .is_some_and(|word| word.ends_with('>')) =>
                {
                    command.push('&');
                }
                '\n' | ';' | '|' | '&' => {
                    self.found.extend(command.end());
                    if c == '\n' {
                        for end in documents.drain(..) {
                            while self.at < self.text.len() && self.until('\n') != end {}
                        }
                    }
                }
                '(' => {
                    self.found.extend(command.end());
                    self.list();
                }
                ')' => {
                    self.found.extend(command.end());
                    return true;
                }
                c if c.is_whitespace() => command.space(),
                c => command.push(c),
            }
        }
        self.found.extend(command.end());
        false
    }

    fn quoted(&mut self, command: &mut Command) {
        command.text("");
        while let Some(c) = self.next() {
            match c {
                '"' => return,
                '\\' => command.push(self.next().unwrap_or(c)),
                '$' if self.skip("(") => {
                    self.list();
                    command.push(ANYTHING);
                }
                c => command.push(c),
            }
        }
    }
}

/// Whether a word sets a variable: `NAME=value`.
fn assigns(word: &str) -> bool {
    let name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    word.split_once('=')
        .is_some_and(|(left, _)| !left.is_empty() && left.chars().all(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_words() {
        for (text, expected) in [
            ("a b  c", vec!["a b c"]),
            (
                "a | b && c || d; e & f\ng",
                vec!["a", "b", "c", "d", "e", "f", "g"],
            ),
            ("a \\\n  b # not c\nd", vec!["a b", "d"]),
            (
                "X=1 sudo Y=2 a 'b c' \"d $(e f) g\"",
                vec!["e f", "a b c d … g"],
            ),
            (
                "f() { for i in $(seq 9); do g \"$@\"; done; }",
                vec!["f", "seq 9", "for i in …", "g $@", "done"],
            ),
            (
                "a >b 2>&1 <c\nd <<'EOF'\nnot; this\nEOF\ne",
                vec!["a >b 2>&1 <c", "d", "e"],
            ),
            ("! a --b='c | d' (e)", vec!["a --b=c | d", "e"]),
            ("PATH=$PATH:x\n", vec![]),
        ] {
            let found: Vec<_> = commands(text).iter().map(|c| c.join(" ")).collect();
            assert_eq!(found, expected, "{text}");
        }
    }
}
