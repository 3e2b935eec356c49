//! What a finding is: a panic that escapes. One that our code catches itself, as it says it does, is none.

use std::backtrace::Backtrace;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook};
use std::sync::{LazyLock, Mutex, PoisonError};

static LAST_PANIC: Mutex<String> = Mutex::new(String::new());

/// Where the input under work is kept, because an overflow of the stack ends the process before libFuzzer can write it.
#[expect(clippy::disallowed_methods, reason = "a target is outside of the engine's world")]
static UNDER_WORK: LazyLock<Option<File>> = LazyLock::new(|| {
    let path = std::env::var("FUZZ_UNDER_WORK").ok()?;
    Some(File::create(path).expect("the folder is there"))
});

/// Takes the place of libFuzzer's own hook, which ends the process at every panic, caught or not.
pub fn only_what_escapes() {
    set_hook(Box::new(|panic: &PanicHookInfo<'_>| {
        let text = format!("{panic}\n{}", Backtrace::capture());
        *LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }));
}

/// Works one input; ends the process when a panic escapes from `work`.
pub fn check(input: &[u8], work: impl FnOnce()) {
    if let Some(file) = &*UNDER_WORK {
        // Its length first, because a longer input may have left its end.
        let kept = [format!("{:010}", input.len()).as_bytes(), input].concat();
        file.write_all_at(&kept, 0).expect("the disk has room");
    }
    if catch_unwind(AssertUnwindSafe(work)).is_err() {
        let text = LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = writeln!(std::io::stderr(), "{text}");
        std::process::abort();
    }
}
