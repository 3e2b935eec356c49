//! Commands that are shown to be copied into a shell.

use std::borrow::Cow;
use std::path::Path;

use bourn_engine::workflow::result::Flags;

use crate::runs::args::JOURNAL;

/// A word of a command.
pub fn quoted(text: &str) -> Cow<'_, str> {
    // Only what has a zero byte can't be.
    shlex::try_quote(text).unwrap_or(Cow::Borrowed(text))
}

/// What commands about runs of this journal need beside.
pub fn flags(journal: &Path, mock: bool) -> Flags {
    let of_run = if journal == Path::new(JOURNAL) {
        String::new()
    } else {
        format!(" --journal {}", quoted(&journal.display().to_string()))
    };
    let anew = format!("{of_run}{}", if mock { " --mock" } else { "" });
    Flags { of_run, anew }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_says_the_journal_that_is_not_the_usual_one() {
        let said = |journal: &str, mock| {
            let Flags { of_run, anew } = flags(Path::new(journal), mock);
            (of_run, anew)
        };
        assert_eq!(said(JOURNAL, false), (String::new(), String::new()));
        assert_eq!(said("my o.db", true), (" --journal 'my o.db'".into(), " --journal 'my o.db' --mock".into()));
    }
}
