//! The pages of the columns, with a dictionary refused that claims more values than it has bytes: memory would be taken for
//! all of them before the first is read.

use std::sync::Arc;

use parquet::arrow::arrow_reader::RowGroups;
use parquet::column::page::{Page, PageIterator, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::serialized_reader::SerializedPageReader;

use super::input::Input;

/// Some row groups of a file.
pub struct Groups {
    pub input: Arc<Input>,
    pub metadata: Arc<ParquetMetaData>,
    /// Which of those in the metadata.
    pub chosen: Vec<usize>,
}

impl RowGroups for Groups {
    fn num_rows(&self) -> usize {
        self.row_groups().map(|g| usize::try_from(g.num_rows()).unwrap_or(0)).sum()
    }

    fn column_chunks(&self, column: usize) -> Result<Box<dyn PageIterator>> {
        let (input, metadata) = (self.input.clone(), self.metadata.clone());
        Ok(Box::new(Chunks { input, metadata, column, groups: self.chosen.clone().into_iter() }))
    }

    fn row_groups(&self) -> Box<dyn Iterator<Item = &RowGroupMetaData> + '_> {
        Box::new(self.chosen.iter().map(|g| self.metadata.row_group(*g)))
    }

    fn metadata(&self) -> &ParquetMetaData {
        &self.metadata
    }
}

/// One column, row group by row group.
struct Chunks {
    input: Arc<Input>,
    metadata: Arc<ParquetMetaData>,
    column: usize,
    groups: std::vec::IntoIter<usize>,
}

impl Iterator for Chunks {
    type Item = Result<Box<dyn PageReader>>;

    fn next(&mut self) -> Option<Self::Item> {
        let group = self.metadata.row_group(self.groups.next()?);
        let rows = usize::try_from(group.num_rows()).unwrap_or(0);
        let pages = SerializedPageReader::new(self.input.clone(), group.column(self.column), rows, None);
        Some(pages.map(|pages| Box::new(Pages(pages)) as _))
    }
}

impl PageIterator for Chunks {}

struct Pages(SerializedPageReader<Input>);

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let page = self.0.get_next_page()?;
        match &page {
            Some(Page::DictionaryPage { buf, num_values, .. }) if !holds(buf.len(), *num_values) => {
                let (length, claimed) = (buf.len(), num_values);
                Err(ParquetError::General(format!("a dictionary of {length} bytes claims {claimed} values")))
            }
            _ => Ok(page),
        }
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.0.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.0.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.0.at_record_boundary()
    }
}

impl Iterator for Pages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

/// Whether so many values fit: each has at least a byte, but for the only one of a column of nothing.
fn holds(bytes: usize, values: u32) -> bool {
    usize::try_from(values).is_ok_and(|values| values <= bytes.max(1))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{Compression, Footer, Writer};
    use super::*;
    use crate::codec::table::Counted;
    use arrow::array::{ArrayRef, Int64Array};
    use arrow::record_batch::RecordBatch;
    use bourn_engine::testing::simulation::Simulation;

    /// Reads a file of a hundred numbers, with the first place of `from` made `to`.
    fn read(from: &[u8], to: &[u8]) -> bourn_engine::Result<usize> {
        let (world, path) = (Simulation::new(1), Path::new("numbers.parquet"));
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..100));
        let rows = RecordBatch::try_from_iter([("n", numbers)]).unwrap();
        let file = Counted::new(world.env().files().create(path).unwrap());
        let mut writer = Writer::new(file, rows.schema(), Compression::Zstd, 64 << 20).unwrap();
        writer.write(&rows).unwrap();
        writer.finish().unwrap();
        let mut bytes = world.files().get(path).unwrap();
        let at = bytes.windows(from.len()).position(|w| w == from).unwrap();
        bytes[at..at + to.len()].copy_from_slice(to);
        world.files().put(path, bytes);
        let footer = Footer::read(world.env().files().open(path).unwrap())?;
        let schema = footer.schema().clone();
        Ok(footer.rows(&schema, 90)?.read()?.map_or(0, |rows| rows.num_rows()))
    }

    #[test]
    fn a_dictionary_that_claims_more_values_than_it_has_bytes_is_refused_before_memory_is_taken_for_it() {
        // The header of the dictionary's page: a struct, and in it the number of values, zigzag: 100, and 8,191.
        let (hundred, many) = ([0x4c, 0x15, 0xc8, 0x01], [0x4c, 0x15, 0xfe, 0x7f]);
        assert_eq!(read(&hundred, &hundred).unwrap(), 10);
        let said = read(&hundred, &many).unwrap_err().to_string();
        assert!(said.ends_with("a dictionary of 800 bytes claims 8191 values"), "{said}");
    }

    #[test]
    fn a_dictionary_holds_as_many_values_as_it_has_bytes_for() {
        assert!(holds(8, 1) && holds(8, 8) && holds(0, 1) && !holds(8, 9) && !holds(0, 2) && !holds(900, u32::MAX));
    }
}
