//! Parquet files with encoded images in one column and labels in another, as the Hugging Face hub keeps them.

use std::fs::File;
use std::io::{BufReader, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use drifting_spec::ImageShape;
use parquet::basic::Type;
use parquet::column::reader::ColumnReader;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, FileReader, Length, SerializedFileReader};
use parquet::schema::types::SchemaDescriptor;

use super::{Checksum, Item, Source, class_names, files, no_such_image, read_range};
use crate::data::{DataError, Picture, Result};

/// Names of label columns, the first that is there counts.
const LABELS: [&str; 5] = ["label", "labels", "fine_label", "cls", "class"];

/// One or many Parquet files with a column of encoded images (`image.bytes`, or any of binary type) and a column of
/// integers (`label`). An image is read by skipping the pages before it; only its own page is unpacked.
#[derive(Debug)]
pub struct ParquetFiles {
    files: Vec<Table>,
    groups: Vec<Group>,
    labels: Vec<u32>,
    classes: Vec<String>,
    sha256: String,
}

struct Table {
    path: PathBuf,
    reader: SerializedFileReader<Chunks>,
    image: usize,
}

impl std::fmt::Debug for Table {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Table").field("path", &self.path).finish_non_exhaustive()
    }
}

/// A row group of a file and the number of its first row in the whole source.
#[derive(Debug)]
struct Group {
    file: usize,
    group: usize,
    first: usize,
}

impl ParquetFiles {
    /// Opens the files of `path` (a file, or a folder of which those count whose names begin with `prefix`); only their
    /// footers and labels are read.
    ///
    /// # Errors
    /// A file that is cut off or broken, columns that are not there, a compression that is not built in, rows without label.
    pub fn open(path: &Path, prefix: &str) -> Result<Self> {
        let (mut tables, mut groups, mut labels, mut names) = (Vec::new(), Vec::new(), Vec::new(), None);
        let mut checksum = Checksum::default();
        for path in files(path, prefix, &["parquet"])? {
            let file = tables.len();
            let (table, found) = guarded(&path, || open(&path))?;
            for (group, found) in found.iter().enumerate() {
                groups.push(Group { file, group, first: labels.len() });
                labels.extend(found);
            }
            checksum.number(table.reader.metadata().file_metadata().num_rows() as u64);
            checksum.text(&footer(&path)?);
            names = names.or_else(|| stated_classes(&table));
            tables.push(table);
        }
        if labels.is_empty() {
            return Err(DataError::file(path, "holds no rows"));
        }
        let classes = class_names(path, names, &labels)?;
        checksum.classes(&classes);
        labels.iter().for_each(|&label| checksum.number(u64::from(label)));
        Ok(Self { files: tables, groups, labels, classes, sha256: checksum.hex() })
    }

    fn place(&self, index: usize) -> Option<(&Table, usize, usize)> {
        let group = self.groups.partition_point(|group| group.first <= index).checked_sub(1)?;
        let group = self.groups.get(group).filter(|_| index < self.labels.len())?;
        Some((&self.files[group.file], group.group, index - group.first))
    }
}

impl Source for ParquetFiles {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> usize {
        self.labels.get(index).map_or(0, |&label| label as usize)
    }

    fn name(&self, index: usize) -> String {
        match self.place(index) {
            Some((table, group, row)) => format!("{}: row {row} of group {group}", table.path.display()),
            None => format!("image {index}"),
        }
    }

    fn shape(&self) -> Option<ImageShape> {
        None
    }

    fn read(&self, index: usize, _version: usize) -> Result<Item> {
        let Some((table, group, row)) = self.place(index) else { return Err(no_such_image(self, index)) };
        let bytes = guarded(&table.path, || {
            let reader = table.reader.get_row_group(group)?.get_column_reader(table.image)?;
            let ColumnReader::ByteArrayColumnReader(mut column) = reader else { return Ok(None) };
            column.skip_records(row)?;
            let mut values: Vec<ByteArray> = Vec::new();
            column.read_records(1, Some(&mut Vec::new()), Some(&mut Vec::new()), &mut values)?;
            Ok(values.pop())
        })?;
        let Some(bytes) = bytes else { return Err(DataError::image(self.name(index), "holds no image")) };
        Picture::decode(bytes.data()).map(Item::Picture).map_err(|problem| DataError::image(self.name(index), problem))
    }

    fn sha256(&self) -> &str {
        &self.sha256
    }
}

/// Runs the reader, whose assertions about broken files become errors, too.
fn guarded<T>(path: &Path, run: impl FnOnce() -> std::result::Result<T, ParquetError>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => result.map_err(|error| DataError::file(path, format!("is no readable Parquet file: {error}"))),
        Err(_) => Err(DataError::file(path, "is no readable Parquet file: its contents contradict themselves")),
    }
}

/// The table and the labels of each of its row groups.
fn open(path: &Path) -> std::result::Result<(Table, Vec<Vec<u32>>), ParquetError> {
    let length = std::fs::metadata(path)?.len();
    let reader = SerializedFileReader::new(Chunks { path: path.into(), length })?;
    let schema = reader.metadata().file_metadata().schema_descr_ptr();
    let (image, label) = columns(&schema)?;
    let mut labels = Vec::new();
    for group in 0..reader.num_row_groups() {
        let group = reader.get_row_group(group)?;
        let rows = usize::try_from(group.metadata().num_rows()).unwrap_or_default();
        let found = integers(group.get_column_reader(label)?, rows)?;
        if found.len() != rows {
            return Err(ParquetError::General(format!("{} labels for {rows} rows", found.len())));
        }
        let wrong = |label: &i64| u32::try_from(*label).is_err();
        if let Some(label) = found.iter().find(|label| wrong(label)) {
            return Err(ParquetError::General(format!(
                "label {label}, expected 0 or more (a test set without labels?)"
            )));
        }
        labels.push(found.into_iter().filter_map(|label| u32::try_from(label).ok()).collect());
    }
    Ok((Table { path: path.into(), reader, image }, labels))
}

/// Numbers of the image and the label column.
fn columns(schema: &SchemaDescriptor) -> std::result::Result<(usize, usize), ParquetError> {
    let columns = || schema.columns().iter().enumerate().filter(|(_, column)| column.max_rep_level() == 0);
    let binary = |column: &parquet::schema::types::ColumnDescriptor| {
        column.physical_type() == Type::BYTE_ARRAY && column.logical_type_ref().is_none()
    };
    let bytes = columns().find(|(_, column)| binary(column) && column.path().string().ends_with(".bytes"));
    let image = bytes.or_else(|| columns().find(|(_, column)| binary(column)));
    let integer = |physical| matches!(physical, Type::INT32 | Type::INT64);
    let label = LABELS.iter().find_map(|name| {
        columns().find(|(_, column)| column.path().string() == *name && integer(column.physical_type()))
    });
    match (image, label) {
        (Some((image, _)), Some((label, _))) => Ok((image, label)),
        (image, _) => {
            let names: Vec<String> = schema.columns().iter().map(|column| column.path().string()).collect();
            let missing = if image.is_none() { "binary column of images" } else { "integer column named label" };
            Err(ParquetError::General(format!("no {missing} among the columns {names:?}")))
        }
    }
}

fn integers(reader: ColumnReader, rows: usize) -> std::result::Result<Vec<i64>, ParquetError> {
    let (mut narrow, mut wide, mut levels) = (Vec::new(), Vec::new(), Vec::new());
    match reader {
        ColumnReader::Int32ColumnReader(mut column) => {
            column.read_records(rows, Some(&mut levels), None, &mut narrow)?;
            wide.extend(narrow.into_iter().map(i64::from));
        }
        ColumnReader::Int64ColumnReader(mut column) => {
            column.read_records(rows, Some(&mut levels), None, &mut wide)?;
        }
        _ => {}
    }
    Ok(wide)
}

/// Names of the classes in the metadata that Hugging Face's `datasets` writes.
fn stated_classes(table: &Table) -> Option<Vec<String>> {
    let metadata = table.reader.metadata().file_metadata();
    let entry = metadata.key_value_metadata()?.iter().find(|entry| entry.key == "huggingface")?;
    let json: serde_json::Value = serde_json::from_str(entry.value.as_ref()?).ok()?;
    let features = json.get("info")?.get("features")?;
    let names = LABELS.iter().find_map(|name| features.get(name)?.get("names")?.as_array())?;
    names.iter().map(|name| name.as_str().map(String::from)).collect()
}

/// The last bytes of a file, which describe the rest.
fn footer(path: &Path) -> Result<Vec<u8>> {
    let size = std::fs::metadata(path).map_err(|source| DataError::Io { path: path.to_owned(), source })?.len();
    let ending = read_range(path, size.saturating_sub(8), size.min(8) as usize)?;
    let length = ending.first_chunk().map_or(0, |&length| u64::from(u32::from_le_bytes(length)));
    let length = length.saturating_add(8).min(size);
    read_range(path, size - length, length as usize)
}

/// A file that is opened for each read: the crate's own reader shares one position among threads.
#[derive(Debug)]
struct Chunks {
    path: Arc<Path>,
    length: u64,
}

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.length
    }
}

impl ChunkReader for Chunks {
    type T = BufReader<File>;

    fn get_read(&self, start: u64) -> std::result::Result<Self::T, ParquetError> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(start))?;
        Ok(BufReader::new(file))
    }

    fn get_bytes(&self, start: u64, length: usize) -> std::result::Result<Bytes, ParquetError> {
        let bytes = read_range(&self.path, start, length).map_err(|error| ParquetError::External(Box::new(error)))?;
        Ok(bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use parquet::basic::Compression;
    use parquet::data_type::{ByteArrayType, Int64Type};
    use parquet::file::metadata::KeyValue;
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    use super::super::testing::{levels, png, survives_damage};
    use super::*;

    const SCHEMA: &str = "message schema { optional group image { optional binary bytes; optional binary path (UTF8); } \
                          optional int64 label; }";

    /// Two row groups of three images each, in the layout of the hub; row i has level `first + i` and label i % 3.
    fn table(first: u8, compression: Compression) -> Vec<u8> {
        let info = r#"{"info": {"features": {"label": {"names": ["a", "b", "c"], "_type": "ClassLabel"}}}}"#;
        let entry = KeyValue::new("huggingface".to_owned(), info.to_owned());
        let properties = WriterProperties::builder()
            .set_compression(compression)
            .set_data_page_row_count_limit(1)
            .set_write_batch_size(1)
            .set_key_value_metadata(Some(vec![entry]))
            .build();
        let schema = Arc::new(parse_message_type(SCHEMA).unwrap());
        let mut file = Vec::new();
        let mut writer = SerializedFileWriter::new(&mut file, schema, Arc::new(properties)).unwrap();
        for group in 0..2u8 {
            let mut rows = writer.next_row_group().unwrap();
            let images: Vec<ByteArray> = (0..3).map(|row| png(first + 3 * group + row).into()).collect();
            let mut column = rows.next_column().unwrap().unwrap();
            column.typed::<ByteArrayType>().write_batch(&images, Some(&[2; 3]), None).unwrap();
            column.close().unwrap();
            let mut column = rows.next_column().unwrap().unwrap();
            column.typed::<ByteArrayType>().write_batch(&[], Some(&[1; 3]), None).unwrap();
            column.close().unwrap();
            let mut column = rows.next_column().unwrap().unwrap();
            column.typed::<Int64Type>().write_batch(&[0, 1, 2], Some(&[1; 3]), None).unwrap();
            column.close().unwrap();
            rows.close().unwrap();
        }
        writer.close().unwrap();
        file
    }

    #[test]
    fn rows_are_found_over_files_and_groups() {
        for compression in [Compression::SNAPPY, Compression::UNCOMPRESSED, Compression::GZIP(Default::default())] {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("train-0.parquet"), table(10, compression)).unwrap();
            fs::write(folder.path().join("train-1.parquet"), table(50, compression)).unwrap();
            fs::write(folder.path().join("test-0.parquet"), table(90, compression)).unwrap();
            let source = ParquetFiles::open(folder.path(), "train").unwrap();
            let expected: Vec<(u8, usize)> =
                (0..12).map(|i| (if i < 6 { 10 + i } else { 44 + i }, (i % 3) as usize)).collect();
            assert_eq!(levels(&source), expected);
            assert_eq!(source.classes(), ["a", "b", "c"]);
            assert!(source.read(12, 0).is_err());
        }
    }

    #[test]
    fn files_without_the_columns_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.parquet");
        let schema = Arc::new(parse_message_type("message schema { required int32 number; }").unwrap());
        let mut file = Vec::new();
        SerializedFileWriter::new(&mut file, schema, Default::default()).unwrap().close().unwrap();
        fs::write(&path, file).unwrap();
        let error = ParquetFiles::open(&path, "").unwrap_err().to_string();
        assert!(error.contains(r#"no binary column of images among the columns ["number"]"#), "{error}");
    }

    #[test]
    fn damaged_files_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.parquet");
        let open = |path: &Path| ParquetFiles::open(path, "").map(|source| Box::new(source) as Box<dyn Source>);
        assert!(survives_damage(&table(1, Compression::SNAPPY), &path, &open) > 150);
    }
}
