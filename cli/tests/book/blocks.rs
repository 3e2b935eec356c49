//! The code blocks of the pages.

use std::fs;
use std::path::{Path, PathBuf};

/// A fenced block of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The page, from the top of the repository.
    pub page: String,
    /// The line of its first line of text, from 1.
    pub line: usize,
    /// The word behind the fence.
    pub language: String,
    /// What the comment right above it says: `<!-- file: examples/quickstart.yaml -->`.
    pub note: Option<String>,
    /// Its lines.
    pub text: String,
}

impl Block {
    /// The file that it must show, from the top of the repository.
    pub fn file(&self) -> Option<&str> {
        self.note.as_deref()?.strip_prefix("file: ")
    }

    /// Whose configuration it is, if not ours.
    pub fn other(&self) -> Option<&str> {
        self.note.as_deref()?.strip_prefix("configuration of ")
    }

    /// `docs/concepts.md:12`
    pub fn place(&self) -> String {
        format!("{}:{}", self.page, self.line)
    }
}

/// The top of the repository.
pub fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The README and every page below docs/, by their paths from the top.
pub fn pages() -> Vec<String> {
    let mut found = vec!["README.md".to_owned()];
    let mut folders = vec![PathBuf::from("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(top().join(&folder)).unwrap() {
            let path = folder.join(entry.unwrap().file_name());
            if top().join(&path).is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "md") {
                found.push(path.to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// The blocks of a page, in order.
pub fn of(page: &str, text: &str) -> Vec<Block> {
    let (mut blocks, mut open, mut before) = (Vec::new(), None::<Block>, "");
    for (n, line) in text.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => {
                let note = before.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->"));
                open = Some(Block {
                    page: page.into(),
                    line: n + 2,
                    language: info.split_whitespace().next().unwrap_or_default().into(),
                    note: note.map(str::to_owned),
                    text: String::new(),
                });
            }
            (Some(_), Some("")) => blocks.extend(open.take()),
            (Some(block), _) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) if !line.trim().is_empty() => before = line.trim(),
            (None, None) => {}
        }
        if open.is_some() {
            before = "";
        }
    }
    assert!(open.is_none(), "{page}: a block is not closed");
    blocks
}

/// Puts another text into a block of its page.
pub fn write(block: &Block, text: &str) {
    let path = top().join(&block.page);
    let page = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = page.lines().collect();
    let (head, rest) = lines.split_at(block.line - 1);
    let tail = &rest[block.text.lines().count()..];
    let new: Vec<&str> = head.iter().copied().chain(text.lines()).chain(tail.iter().copied()).collect();
    fs::write(path, new.join("\n") + "\n").unwrap();
}

#[test]
fn blocks_are_found_with_their_notes() {
    let text = "# A\n<!-- file: a.yaml -->\n```yaml\na: 1\n```\n\ntext\n\n```sh\nls\n```\n";
    let found = of("a.md", text);
    assert_eq!((found[0].line, found[0].language.as_str(), found[0].file()), (4, "yaml", Some("a.yaml")));
    assert_eq!((found[1].language.as_str(), found[1].note.as_deref(), found[1].text.as_str()), ("sh", None, "ls\n"));
}
