//! What a table keeps by key, as columns at rest.

use std::sync::Arc;

use arrow::array::{ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray};
use arrow::datatypes::{ArrowNativeType, Float64Type, Int32Type, Int64Type, UInt32Type, UInt64Type};
use arrow::error::ArrowError;

use crate::error::Result;

/// What a [`Table`](super::Table) keeps by key: a number, or several as a tuple. At rest each is a column.
pub trait Cells: Clone + Default + Send + Sync + 'static {
    /// How many columns it takes.
    const COLUMNS: usize;
    /// How many bytes it takes on the disk.
    const BYTES: usize;

    /// The values as columns.
    fn columns(values: &[&Self]) -> Vec<ArrayRef>;

    /// The values of columns that [`Cells::columns`] has made.
    ///
    /// # Errors
    /// When they are of other types.
    fn read(columns: &[ArrayRef]) -> Result<Vec<Self>>;

    /// Adds its [`Cells::BYTES`] bytes.
    fn put(&self, into: &mut Vec<u8>);

    /// The value that [`Cells::put`] has written at the beginning of these bytes; the default where there are too few.
    fn take(bytes: &[u8]) -> Self;
}

/// A number that is a column by itself.
pub trait Cell: ArrowNativeType {
    /// Its type as a column.
    type Arrow: ArrowPrimitiveType<Native = Self>;

    /// Its bytes, the least first.
    fn bytes(self) -> impl AsRef<[u8]>;

    /// The number that these bytes begin with.
    fn of(bytes: &[u8]) -> Option<Self>;
}

macro_rules! cell {
    ($($native:ident $arrow:ident),+) => {$(
        impl Cell for $native {
            type Arrow = $arrow;

            fn bytes(self) -> impl AsRef<[u8]> {
                self.to_le_bytes()
            }

            fn of(bytes: &[u8]) -> Option<Self> {
                bytes.first_chunk().map(|b| Self::from_le_bytes(*b))
            }
        }
    )+};
}

cell!(i32 Int32Type, i64 Int64Type, u32 UInt32Type, u64 UInt64Type, f64 Float64Type);

fn column<C: Cell>(values: impl Iterator<Item = C>) -> ArrayRef {
    Arc::new(PrimitiveArray::<C::Arrow>::from_iter_values(values))
}

fn read<C: Cell>(columns: &[ArrayRef], at: usize) -> Result<&PrimitiveArray<C::Arrow>> {
    let column = columns.get(at).and_then(|c| c.as_primitive_opt::<C::Arrow>());
    Ok(column.ok_or_else(|| ArrowError::SchemaError(format!("the saved column {at} of a table has another type")))?)
}

impl<C: Cell> Cells for C {
    const COLUMNS: usize = 1;
    const BYTES: usize = size_of::<C>();

    fn columns(values: &[&Self]) -> Vec<ArrayRef> {
        vec![column(values.iter().map(|v| **v))]
    }

    fn read(columns: &[ArrayRef]) -> Result<Vec<Self>> {
        Ok(read::<C>(columns, 0)?.values().to_vec())
    }

    fn put(&self, into: &mut Vec<u8>) {
        into.extend_from_slice(self.bytes().as_ref());
    }

    fn take(bytes: &[u8]) -> Self {
        C::of(bytes).unwrap_or_default()
    }
}

/// Nothing but the key.
impl Cells for () {
    const COLUMNS: usize = 0;
    const BYTES: usize = 0;

    fn columns(_: &[&Self]) -> Vec<ArrayRef> {
        Vec::new()
    }

    fn read(_: &[ArrayRef]) -> Result<Vec<Self>> {
        Ok(Vec::new())
    }

    fn put(&self, _: &mut Vec<u8>) {}

    fn take(_: &[u8]) -> Self {}
}

macro_rules! tuple {
    ($count:literal, $($name:ident $at:tt),+) => {
        impl<$($name: Cell),+> Cells for ($($name,)+) {
            const COLUMNS: usize = $count;
            const BYTES: usize = 0 $(+ size_of::<$name>())+;

            fn columns(values: &[&Self]) -> Vec<ArrayRef> {
                vec![$(column(values.iter().map(|v| v.$at))),+]
            }

            fn read(columns: &[ArrayRef]) -> Result<Vec<Self>> {
                let columns = ($(read::<$name>(columns, $at)?,)+);
                Ok((0..columns.0.len()).map(|row| ($(columns.$at.value(row),)+)).collect())
            }

            fn put(&self, into: &mut Vec<u8>) {
                $(into.extend_from_slice(self.$at.bytes().as_ref());)+
            }

            fn take(bytes: &[u8]) -> Self {
                let mut rest = bytes;
                ($({
                    let value = $name::of(rest).unwrap_or_default();
                    rest = rest.get(size_of::<$name>()..).unwrap_or_default();
                    let _ = rest;
                    value
                },)+)
            }
        }
    };
}

tuple!(2, A 0, B 1);
tuple!(3, A 0, B 1, C 2);
tuple!(4, A 0, B 1, C 2, D 3);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_back_is_what_was_written() {
        let rows = [(1i64, 2.5f64, 3u32), (-1, 0.0, u32::MAX)];
        let columns = Cells::columns(&rows.iter().collect::<Vec<_>>());
        assert_eq!(<(i64, f64, u32)>::read(&columns).unwrap(), rows);
        assert_eq!(i64::read(&columns).unwrap(), [1, -1]);
        assert!(<(u32, i64)>::read(&columns).is_err());
        assert_eq!(<()>::columns(&[&(), &()]).len(), 0);
        let mut bytes = Vec::new();
        rows[1].put(&mut bytes);
        7u64.put(&mut bytes);
        assert_eq!((bytes.len(), <(i64, f64, u32)>::take(&bytes), <(i64, f64, u32)>::BYTES), (28, rows[1], 20));
        assert_eq!((u64::take(&bytes[20..]), u64::take(&bytes[21..]), u64::BYTES), (7, 0, 8));
    }
}
