//! The state file: quota counters on disk, by redb.
//!
//! Used by `counter` alone, when it opens and from its own thread. One table, one transaction a
//! flush. A database that failed is closed and opened again by the next write, because redb
//! accepts nothing more after an I/O error. Never used on the request path.

use super::StateError;
use super::counter::Subject;
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};
use std::path::{Path, PathBuf};

/// Consumer, product, period in milliseconds: number of the window, count.
const QUOTAS: TableDefinition<'_, (&str, &str, u64), (u64, u64)> = TableDefinition::new("quotas-1");
/// A million counters are about 100 MB, of which a flush touches little.
const CACHE_BYTES: usize = 8 << 20;

type Opener = Box<dyn Fn() -> Result<Database, DatabaseError> + Send>;

pub(super) struct QuotaFile {
    open: Opener,
    database: Option<Database>,
}

#[derive(Debug)]
pub(super) struct Row {
    pub(super) subject: Subject,
    pub(super) number: u64,
    pub(super) used: u64,
}

impl QuotaFile {
    pub(super) fn open(path: &Path) -> Result<(QuotaFile, Vec<Row>), StateError> {
        let owned = path.to_owned();
        let opener = move || {
            redb::Builder::new()
                .set_cache_size(CACHE_BYTES)
                // A file that something else has altered is refused instead of trusted.
                .set_check_integrity_on_open(true)
                .create(&owned)
        };
        QuotaFile::on(Box::new(opener)).map_err(|error| explain(error, path.to_owned()))
    }

    pub(super) fn on(open: Opener) -> Result<(QuotaFile, Vec<Row>), redb::Error> {
        let database = open()?;
        let rows = load(&database)?;
        Ok((QuotaFile { open, database: Some(database) }, rows))
    }

    /// All or nothing.
    pub(super) fn write<'a>(
        &mut self,
        rows: impl ExactSizeIterator<Item = &'a Row>,
        over: &[Subject],
    ) -> Result<(), redb::Error> {
        if rows.len() == 0 && over.is_empty() {
            return Ok(());
        }
        let database = match self.database.take() {
            Some(database) => database,
            None => (self.open)()?,
        };
        store(&database, rows, over)?;
        self.database = Some(database);
        Ok(())
    }
}

fn load(database: &Database) -> Result<Vec<Row>, redb::Error> {
    let writing = database.begin_write()?;
    // Creates the table, so that everything after this can rely on it.
    writing.open_table(QUOTAS)?;
    writing.commit()?;
    let table = database.begin_read()?.open_table(QUOTAS)?;
    let mut rows = Vec::new();
    for entry in table.iter()? {
        let (key, value) = entry?;
        let (consumer, product, period_millis) = key.value();
        let (number, used) = value.value();
        let subject = Subject { consumer: consumer.into(), product: product.into(), period_millis };
        rows.push(Row { subject, number, used });
    }
    Ok(rows)
}

fn store<'a>(
    database: &Database,
    rows: impl Iterator<Item = &'a Row>,
    over: &[Subject],
) -> Result<(), redb::Error> {
    let writing = database.begin_write()?;
    let mut table = writing.open_table(QUOTAS)?;
    for Row { subject, number, used } in rows {
        table.insert(key(subject), (*number, *used))?;
    }
    for subject in over {
        table.remove(key(subject))?;
    }
    drop(table);
    writing.commit()?;
    Ok(())
}

fn key(subject: &Subject) -> (&str, &str, u64) {
    (&subject.consumer, &subject.product, subject.period_millis)
}

fn explain(error: redb::Error, path: PathBuf) -> StateError {
    match error {
        redb::Error::DatabaseAlreadyOpen => StateError::InUse { path },
        redb::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            StateError::Corrupt { path, cause: error.to_string() }
        }
        redb::Error::Io(error) => StateError::Io { path, cause: error.to_string() },
        other => StateError::Corrupt { path, cause: other.to_string() },
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use redb::StorageBackend;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, Mutex};

    /// A disk in memory that can be full.
    #[derive(Clone, Debug, Default)]
    pub(in super::super) struct Disk {
        bytes: Arc<Mutex<Vec<u8>>>,
        full: Arc<AtomicBool>,
    }

    impl Disk {
        pub(in super::super) fn opener(&self) -> Opener {
            let disk = self.clone();
            Box::new(move || redb::Builder::new().create_with_backend(disk.clone()))
        }

        pub(in super::super) fn fill(&self, full: bool) {
            self.full.store(full, Ordering::Relaxed);
        }

        fn room(&self) -> Result<(), std::io::Error> {
            if self.full.load(Ordering::Relaxed) {
                return Err(std::io::ErrorKind::StorageFull.into());
            }
            Ok(())
        }
    }

    impl StorageBackend for Disk {
        fn len(&self) -> Result<u64, std::io::Error> {
            Ok(self.bytes.lock().unwrap().len() as u64)
        }
        fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), std::io::Error> {
            let offset = offset as usize;
            out.copy_from_slice(&self.bytes.lock().unwrap()[offset..offset + out.len()]);
            Ok(())
        }
        fn set_len(&self, len: u64) -> Result<(), std::io::Error> {
            self.room()?;
            self.bytes.lock().unwrap().resize(len as usize, 0);
            Ok(())
        }
        fn sync_data(&self) -> Result<(), std::io::Error> {
            self.room()
        }
        fn write(&self, offset: u64, data: &[u8]) -> Result<(), std::io::Error> {
            self.room()?;
            let offset = offset as usize;
            self.bytes.lock().unwrap()[offset..offset + data.len()].copy_from_slice(data);
            Ok(())
        }
    }

    fn error_of(path: &Path) -> StateError {
        QuotaFile::open(path).map(|_| ()).unwrap_err()
    }

    #[test]
    fn a_missing_file_is_created_and_an_open_one_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.redb");
        let (_file, rows) = QuotaFile::open(&path).unwrap();
        assert!(rows.is_empty() && path.exists());
        assert!(matches!(error_of(&path), StateError::InUse { .. }));
    }

    #[test]
    fn a_file_of_another_kind_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.redb");
        std::fs::write(&path, "listeners: []\n".repeat(1_000)).unwrap();
        let error = error_of(&path);
        assert!(matches!(error, StateError::Corrupt { .. }), "{error:?}");
        assert!(error.to_string().contains("state.redb"));
        assert!(matches!(error_of(&directory.path().join("no/such")), StateError::Io { .. }));
        assert!(matches!(error_of(directory.path()), StateError::Io { .. }));
    }

    #[test]
    fn a_damaged_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.redb");
        drop(QuotaFile::open(&path).unwrap());
        let mut bytes = std::fs::read(&path).unwrap();
        for byte in bytes.iter_mut().skip(64).step_by(3) {
            *byte ^= 0x5a;
        }
        std::fs::write(&path, bytes).unwrap();
        assert!(matches!(error_of(&path), StateError::Corrupt { .. }));
    }
}
