//! Tests of the file above.

use super::*;

fn read(files: &MemoryFiles, path: &str) -> Result<Vec<u8>> {
    let file = files.open(Path::new(path))?;
    let mut buffer = vec![0; 64];
    let count = file.read_at(0, &mut buffer)?;
    buffer.truncate(count);
    Ok(buffer)
}

#[test]
fn files_are_written_renamed_found_and_removed() {
    let files = MemoryFiles::default();
    files.put("in/a.txt", "a");
    files.put("./in/b.txt", "b");
    files.put("in/deep/c.txt", "c");
    assert_eq!(files.glob("in/*.txt").unwrap(), [Path::new("in/a.txt"), Path::new("in/b.txt")]);
    assert_eq!(files.glob("**/*.txt").unwrap().len(), 3);
    assert_eq!(files.glob("none.txt").unwrap(), [Path::new("none.txt")]);
    let mut file = files.create(Path::new("out/x.tmp")).unwrap();
    file.write_all(b"hello").unwrap();
    file.sync().unwrap();
    files.rename(Path::new("out/x.tmp"), Path::new("in/a.txt")).unwrap();
    assert_eq!(read(&files, "in/a.txt").unwrap(), b"hello");
    files.remove(Path::new("in/a.txt")).unwrap();
    assert_eq!(read(&files, "in/a.txt").unwrap_err().kind(), Kind::NotFound);
    assert_eq!(read(&files, "in").unwrap_err().to_string(), "in: is a folder");
}

#[test]
fn a_locked_file_is_free_again_when_the_lock_is_dropped() {
    let files = MemoryFiles::default();
    let held = files.lock(Path::new("a.lock")).unwrap().unwrap();
    assert!(files.lock(Path::new("./a.lock")).unwrap().is_none());
    drop(held);
    assert_eq!(files.identify(Path::new("a.lock")).unwrap(), None);
    assert!(files.lock(Path::new("a.lock")).unwrap().is_some());
}

#[test]
fn a_file_keeps_its_number_under_another_name_and_what_takes_its_name_has_another() {
    let files = MemoryFiles::default();
    files.put("a", "1");
    let id = files.identify(Path::new("a")).unwrap();
    let open = files.open(Path::new("a")).unwrap();
    files.rename(Path::new("a"), Path::new("b")).unwrap();
    files.append("a", "2");
    assert_eq!((files.identify(Path::new("b")).unwrap(), Some(open.id().unwrap())), (id, id));
    assert_ne!(files.identify(Path::new("a")).unwrap(), id);
    files.append("b", "3");
    assert_eq!(files.get("b").unwrap(), b"13");
    files.change("b", |bytes| bytes.truncate(1));
    assert_eq!((open.len().unwrap(), files.identify(Path::new("c")).unwrap()), (1, None));
}

#[test]
fn a_crash_leaves_what_was_synced_and_what_it_likes_of_the_rest() {
    let files = MemoryFiles::default();
    let write = |path: &str, text: &str| {
        let mut file = files.create(Path::new(path)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    };
    write("a/synced", "whole").sync().unwrap();
    files.sync_folder(Path::new("a")).unwrap();
    files.reopen(Path::new("a/synced"), 5).unwrap().write_all(b" and more").unwrap();
    write("a/nameless", "lost").sync().unwrap();
    let other = MemoryFiles::default();
    files.crash(|| false);
    assert_eq!((files.get("a/synced").unwrap(), files.get("a/nameless")), (b"whole".to_vec(), None));
    other.put("b", "12");
    other.reopen(Path::new("b"), 1).unwrap().write_all(b"34567").unwrap();
    let mut answers = [false, true].into_iter();
    other.crash(|| answers.next().unwrap());
    assert_eq!(other.get("b").unwrap(), b"134");
    assert!(other.reopen(Path::new("b"), 9).is_err());
}

#[test]
fn the_nth_call_fails_as_told() {
    let write = |fault: Option<(u64, Fault)>| {
        let files = MemoryFiles::default();
        if let Some((nth, fault)) = fault {
            files.fail(nth, fault);
        }
        let result = (|| -> Result<usize> {
            let mut file = files.create(Path::new("a"))?;
            let written = file.write(b"12345678")?;
            file.sync()?;
            Ok(written)
        })();
        (result, files.get("a"), files.calls())
    };
    let (result, content, calls) = write(None);
    assert_eq!((result.unwrap(), content.unwrap().len(), calls), (8, 8, 3));
    assert_eq!(write(Some((1, Fault::Io))).0.unwrap_err().message().split(':').next(), Some("a"));
    assert_eq!(write(Some((2, Fault::Full))).0.unwrap_err().kind(), Kind::Io);
    let (result, content, _) = write(Some((2, Fault::Short)));
    assert_eq!((result.unwrap(), content.unwrap()), (4, b"1234".to_vec()));
    assert_eq!(write(Some((3, Fault::Io))).0.unwrap_err().kind(), Kind::Io);
}
