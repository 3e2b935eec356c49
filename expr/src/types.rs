//! The reading of SQL types where the engine differs from DataFusion.

use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use bourn_engine::data::columns::MOMENT;
use datafusion_common::Result;
use datafusion_expr::planner::TypePlanner;
use datafusion_sql::sqlparser::ast::{DataType as SqlType, TimezoneInfo};

/// `timestamp` to the microsecond: nanoseconds end in the year 2262, and one unit everywhere needs no conversions.
#[derive(Debug)]
pub struct Types;

impl TypePlanner for Types {
    fn plan_type_field(&self, sql_type: &SqlType) -> Result<Option<FieldRef>> {
        let data_type = match sql_type {
            SqlType::Timestamp(None, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => MOMENT,
            SqlType::Timestamp(None, TimezoneInfo::WithTimeZone | TimezoneInfo::Tz) => {
                DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
            }
            _ => return Ok(None),
        };
        Ok(Some(Field::new("", data_type, true).into()))
    }
}
