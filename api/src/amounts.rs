//! Values of metrics as members of an object. Names, order, types and descriptions are those of the model's declarations.

use crate::value::Amount;
use serde::{Serialize, Serializer};
use std::borrow::Cow;
use std::marker::PhantomData;
use tidemark_model::Metric;
use tidemark_model::metrics::{COUNT, RollUp, Unit};
use utoipa::openapi::RefOr;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::{IntoParams, PartialSchema, ToSchema};

/// Values of the metrics that the shape has.
#[derive(Clone, Debug)]
pub struct Amounts<S>([Option<Amount>; COUNT], PhantomData<S>);

/// Which metrics an object has, and what it calls them.
pub trait Shape {
    /// The schema's name.
    const SCHEMA: &'static str;
    /// Those that it has.
    const METRICS: &'static [Metric] = &Metric::ALL;
    /// Whether each of them is always there.
    const REQUIRED: bool = true;

    /// The member's name.
    fn member(metric: Metric) -> Cow<'static, str> {
        metric.name().into()
    }

    /// What the document says of the member.
    fn described(metric: Metric) -> String {
        metric.declared().meaning.to_owned()
    }
}

/// Of a row: all metrics by their names.
#[derive(Clone, Copy, Debug)]
pub struct Row;

/// Of what is present: that which the newest minutes alone say.
#[derive(Clone, Copy, Debug)]
pub struct Presence;

/// Values over several windows of a stream: sums, and the peak of a metric that is not summed.
#[derive(Clone, Copy, Debug)]
pub struct Period;

/// Minimum values; none is no condition.
#[derive(Clone, Copy, Debug)]
pub struct Minimum;

impl Shape for Row {
    const SCHEMA: &'static str = "MetricValues";
}

impl Shape for Presence {
    const SCHEMA: &'static str = "PresentValues";
    const METRICS: &'static [Metric] = &[Metric::ActiveViewers];
}

impl Shape for Period {
    const SCHEMA: &'static str = "Totals";

    fn member(metric: Metric) -> Cow<'static, str> {
        match metric.declared().roll_up {
            RollUp::AtEnd => format!("peak_{}", short(metric)).into(),
            RollUp::Sum => metric.name().into(),
        }
    }

    fn described(metric: Metric) -> String {
        match metric.declared().roll_up {
            RollUp::AtEnd => format!("the largest {} of the period's windows", metric.name()),
            RollUp::Sum => format!("the sum of {} over the period's windows", metric.name()),
        }
    }
}

impl Shape for Minimum {
    const SCHEMA: &'static str = "Minima";
    const REQUIRED: bool = false;

    fn member(metric: Metric) -> Cow<'static, str> {
        format!("min_{}", short(metric)).into()
    }
}

/// Without `active_`: with a word before it, the rest has always been the name.
fn short(metric: Metric) -> &'static str {
    metric.name().trim_start_matches("active_")
}

impl<S: Shape> Amounts<S> {
    /// Of each metric what `value` has of it.
    pub fn try_of<E>(mut value: impl FnMut(Metric) -> Result<Option<Amount>, E>) -> Result<Amounts<S>, E> {
        let mut amounts = [const { None }; COUNT];
        for &metric in S::METRICS {
            amounts[metric as usize] = value(metric)?;
        }
        Ok(Amounts(amounts, PhantomData))
    }

    /// Those that are there.
    pub fn iter(&self) -> impl Iterator<Item = (Metric, &Amount)> {
        Metric::ALL.into_iter().zip(&self.0).filter_map(|(metric, amount)| Some((metric, amount.as_ref()?)))
    }

    /// This metric's, if it is there.
    pub fn get(&self, metric: Metric) -> Option<&Amount> {
        self.0[metric as usize].as_ref()
    }
}

impl<S: Shape> Serialize for Amounts<S> {
    fn serialize<T: Serializer>(&self, serializer: T) -> Result<T::Ok, T::Error> {
        serializer.collect_map(self.iter().map(|(metric, amount)| (S::member(metric), amount)))
    }
}

impl<S: Shape> PartialSchema for Amounts<S> {
    fn schema() -> RefOr<Schema> {
        let object = S::METRICS.iter().fold(ObjectBuilder::new(), |object, &metric| {
            let name = S::member(metric);
            let object = if S::REQUIRED { object.required(name.as_ref()) } else { object };
            object.property(name, schema(metric).description(Some(S::described(metric))))
        });
        object.into()
    }
}

impl<S: Shape> ToSchema for Amounts<S> {
    fn name() -> Cow<'static, str> {
        S::SCHEMA.into()
    }
}

impl IntoParams for Amounts<Minimum> {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let parameter = |metric: Metric| {
            let declared = metric.declared();
            let example = if declared.unit == Unit::Usd { ", as in 12.50" } else { "" };
            let description = format!("Rows with at least so much in {}{example}: {}", declared.name, declared.meaning);
            documented(&Minimum::member(metric), schema(metric).minimum(Some(0)), &description)
        };
        Metric::ALL.map(parameter).into()
    }
}

/// What a value looks like in JSON.
fn schema(metric: Metric) -> ObjectBuilder {
    let (kind, format) = match metric.declared().unit {
        Unit::Count => (Type::Integer, KnownFormat::Int64),
        Unit::Usd => (Type::Number, KnownFormat::Double),
    };
    ObjectBuilder::new().schema_type(kind).format(Some(SchemaFormat::KnownFormat(format)))
}

/// A parameter in the OpenAPI document.
pub fn documented(name: &str, schema: ObjectBuilder, description: &str) -> Parameter {
    let parameter = ParameterBuilder::new().name(name).parameter_in(ParameterIn::Query).schema(Some(schema.build()));
    parameter.description(Some(description)).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members<S: Shape>() -> Vec<Cow<'static, str>> {
        S::METRICS.iter().map(|metric| S::member(*metric)).collect()
    }

    #[test]
    fn members_are_called_what_clients_know() {
        assert_eq!(members::<Row>(), ["active_viewers", "chat_messages", "donations_usd"]);
        assert_eq!(members::<Presence>(), ["active_viewers"]);
        assert_eq!(members::<Period>(), ["peak_viewers", "chat_messages", "donations_usd"]);
        assert_eq!(members::<Minimum>(), ["min_viewers", "min_chat_messages", "min_donations_usd"]);
    }
}
