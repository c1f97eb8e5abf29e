//! Values of metrics as members of an object. Names, order, types and descriptions are those of the model's declarations.

use crate::params::Choice;
use crate::value::Amount;
use serde::{Serialize, Serializer};
use std::borrow::Cow;
use std::marker::PhantomData;
use tidemark_model::metrics::{COUNT, RollUp, Unit};
use tidemark_model::{Grain, Metric};
use utoipa::openapi::RefOr;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, Schema, SchemaFormat, SchemaType, Type};
use utoipa::{IntoParams, PartialSchema, ToSchema};

/// Values of the metrics that the shape has in windows of one length. One that is not there is null, or left out where the shape requires
/// none.
#[derive(Clone, Debug)]
pub struct Amounts<S> {
    grain: Grain,
    values: [Option<Amount>; COUNT],
    shape: PhantomData<S>,
}

/// Which metrics an object has, and what it calls them. Days have every member that shorter windows have.
pub trait Shape {
    /// The schema's name.
    const SCHEMA: &'static str;
    /// Whether each of its metrics is always a member.
    const REQUIRED: bool = true;

    /// Whether it has this metric, which windows of this length have.
    fn has(_: Metric, _: Grain) -> bool {
        true
    }

    /// Those that it has in windows of this length, in order.
    fn metrics(grain: Grain) -> impl Iterator<Item = Metric> {
        Metric::of(grain).iter().copied().filter(move |metric| Self::has(*metric, grain))
    }

    /// The member's name.
    fn member(metric: Metric) -> Cow<'static, str> {
        metric.name().into()
    }

    /// What the document says of the member.
    fn described(metric: Metric) -> String {
        let null = if metric.declared().first { "" } else { "; null where an earlier version wrote the row" };
        format!("{}{null}{}", metric.declared().meaning, only(metric))
    }
}

/// Of a row: all metrics by their names.
#[derive(Clone, Copy, Debug)]
pub struct Row;

/// Of what is present: that which the newest minutes alone say.
#[derive(Clone, Copy, Debug)]
pub struct Presence;

/// Values over several rows of a stream: sums, and the largest number of viewers present. Metrics of distinct users are left out: a sum
/// would count a user again in each window.
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

    fn has(metric: Metric, _: Grain) -> bool {
        metric == Metric::ActiveViewers
    }
}

impl Shape for Period {
    const SCHEMA: &'static str = "Totals";

    /// The peak is the largest number at the end of a minute. Of longer windows a metric of its own tells it.
    fn has(metric: Metric, grain: Grain) -> bool {
        match metric.declared().roll_up {
            RollUp::AtEnd => grain == Grain::Minute,
            RollUp::Distinct => false,
            RollUp::Sum | RollUp::Largest => true,
        }
    }

    fn member(metric: Metric) -> Cow<'static, str> {
        match metric.declared().roll_up {
            RollUp::AtEnd => format!("peak_{}", short(metric)).into(),
            RollUp::Sum | RollUp::Distinct | RollUp::Largest => metric.name().into(),
        }
    }

    fn described(metric: Metric) -> String {
        let name = metric.name();
        let what = match metric.declared().roll_up {
            RollUp::Largest => format!("largest {name} (with grain minute: active_viewers)"),
            RollUp::AtEnd => format!("largest {name}"),
            RollUp::Sum | RollUp::Distinct => format!("sum of {name}"),
        };
        let null = if metric.declared().first { "" } else { "; null if it is null in one of them" };
        format!("the {what} of the period's rows{null}")
    }
}

impl Shape for Minimum {
    const SCHEMA: &'static str = "Minima";
    const REQUIRED: bool = false;

    /// All: one that windows of this length do not have is refused, not ignored.
    fn metrics(_: Grain) -> impl Iterator<Item = Metric> {
        Metric::ALL.into_iter()
    }

    fn member(metric: Metric) -> Cow<'static, str> {
        format!("min_{}", short(metric)).into()
    }
}

/// Without `active_`: with a word before it, the rest has always been the name.
fn short(metric: Metric) -> &'static str {
    metric.name().trim_start_matches("active_")
}

/// What the document says behind a metric that not all windows have.
pub fn only(metric: Metric) -> String {
    let grains = metric.declared().grains;
    if grains.len() == Grain::ALL.len() {
        return String::new();
    }
    format!(" (only with grain {})", grains.iter().map(|grain| grain.as_str()).collect::<Vec<_>>().join(" or "))
}

impl<S: Shape> Amounts<S> {
    /// Of each metric, in order, what `value` has of it.
    pub fn try_of<E>(grain: Grain, mut value: impl FnMut(Metric) -> Result<Option<Amount>, E>) -> Result<Amounts<S>, E> {
        let mut values = [const { None }; COUNT];
        for metric in S::metrics(grain) {
            values[metric as usize] = value(metric)?;
        }
        Ok(Amounts { grain, values, shape: PhantomData })
    }

    /// Those that are there.
    pub fn iter(&self) -> impl Iterator<Item = (Metric, &Amount)> {
        Metric::ALL.into_iter().zip(&self.values).filter_map(|(metric, amount)| Some((metric, amount.as_ref()?)))
    }

    /// All that the shape has, in order.
    pub fn members(&self) -> impl Iterator<Item = (Metric, Option<&Amount>)> {
        S::metrics(self.grain).map(|metric| (metric, self.get(metric)))
    }

    /// This metric's, if it is there.
    pub fn get(&self, metric: Metric) -> Option<&Amount> {
        self.values[metric as usize].as_ref()
    }
}

impl<S: Shape> Serialize for Amounts<S> {
    fn serialize<T: Serializer>(&self, serializer: T) -> Result<T::Ok, T::Error> {
        let members = self.members().filter(|(_, amount)| S::REQUIRED || amount.is_some());
        serializer.collect_map(members.map(|(metric, amount)| (S::member(metric), amount)))
    }
}

impl<S: Shape> PartialSchema for Amounts<S> {
    fn schema() -> RefOr<Schema> {
        let object = S::metrics(Grain::Day).fold(ObjectBuilder::new(), |object, metric| {
            let name = S::member(metric);
            let always = S::metrics(Grain::Minute).any(|of_minutes| S::member(of_minutes) == name);
            let object = if S::REQUIRED && always { object.required(name.as_ref()) } else { object };
            let nullable = S::REQUIRED && !metric.declared().first;
            object.property(name, schema(metric, nullable).description(Some(S::described(metric))))
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
            let example = match declared.unit {
                Unit::Count => "",
                Unit::Milliseconds => ", in milliseconds",
                Unit::Usd => ", as in 12.50",
            };
            let null = if declared.first { "" } else { " (no row in which it is null)" };
            let (name, meaning, only) = (declared.name, declared.meaning, only(metric));
            let description = format!("Rows with at least so much in {name}{example}: {meaning}{null}{only}");
            documented(&Minimum::member(metric), schema(metric, false).minimum(Some(0)), &description)
        };
        Metric::ALL.map(parameter).into()
    }
}

/// What a value looks like in JSON.
fn schema(metric: Metric, nullable: bool) -> ObjectBuilder {
    let (kind, format) = match metric.declared().unit {
        Unit::Count | Unit::Milliseconds => (Type::Integer, KnownFormat::Int64),
        Unit::Usd => (Type::Number, KnownFormat::Double),
    };
    let kind = if nullable { SchemaType::from_iter([kind, Type::Null]) } else { kind.into() };
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

    fn members<S: Shape>(grain: Grain) -> Vec<Cow<'static, str>> {
        S::metrics(grain).map(S::member).collect()
    }

    #[test]
    fn members_are_called_what_clients_know() {
        // Others may come, anywhere.
        fn known<S: Shape>(grain: Grain, expected: &[&str]) {
            let mut members = members::<S>(grain);
            members.retain(|member| expected.contains(&&**member));
            assert_eq!(members, expected);
        }
        let row = ["active_viewers", "unique_viewers", "watch_ms", "chat_messages", "unique_chatters", "donations"];
        known::<Row>(Grain::Minute, &[&row[..], &["donations_usd", "donors"]].concat());
        assert_eq!(members::<Presence>(Grain::Minute), ["active_viewers"]);
        let sums = ["watch_ms", "chat_messages", "donations", "donations_usd"];
        known::<Period>(Grain::Minute, &[&["peak_viewers"], &sums[..]].concat());
        let minimum = ["min_viewers", "min_unique_viewers", "min_watch_ms", "min_chat_messages", "min_unique_chatters"];
        let minimum = [&minimum[..], &["min_donations", "min_donations_usd", "min_donors", "min_peak_viewers"]].concat();
        for grain in [Grain::Hour, Grain::Day] {
            known::<Row>(grain, &[&row[..], &["donations_usd", "donors", "peak_viewers"]].concat());
            known::<Period>(grain, &[&sums[..], &["peak_viewers"]].concat());
            known::<Minimum>(grain, &minimum);
        }
    }

    #[test]
    fn days_have_every_member() {
        fn is_so<S: Shape>() -> bool {
            let days = members::<S>(Grain::Day);
            Grain::ALL.into_iter().flat_map(members::<S>).all(|member| days.contains(&member))
        }
        assert!(is_so::<Row>() && is_so::<Presence>() && is_so::<Period>() && is_so::<Minimum>());
    }
}
