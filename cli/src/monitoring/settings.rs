//! What is sent and where: as the command line says it, or the spec, or the variables of OpenTelemetry.

use std::time::Duration;

use bourn_engine::env::Env;
use bourn_engine::spec::Spec;
use bourn_engine::spec::monitoring::Monitoring;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_sdk::trace::Sampler;
use percent_encoding::percent_decode_str;
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use super::attributes::text;

/// How often metrics are sent, where nobody says it.
const INTERVAL: Duration = Duration::from_mins(1);
/// How long a collector may take for an answer, where nobody says it.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// Where a kind of things is sent.
#[derive(Clone, Debug)]
pub struct Target {
    /// The whole address.
    pub url: Url,
    /// What is sent with each request.
    pub headers: HeaderMap,
    /// How long an answer may take.
    pub timeout: Duration,
}

/// What is sent.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where spans go.
    pub traces: Option<Target>,
    /// Where metrics go.
    pub metrics: Option<Target>,
    /// Of which traces.
    pub sampler: Sampler,
    /// Whether spans have inputs and results.
    pub payloads: bool,
    /// How often metrics are sent.
    pub interval: Duration,
    /// Who sends.
    pub resource: Vec<KeyValue>,
}

/// `otlp=http://127.0.0.1:4318`, of the command line.
///
/// # Errors
/// When there is no such part, or it can't have this value.
pub fn parse(text: &str) -> Result<Monitoring, String> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| format!("`{text}` is nothing to monitor: write `otlp=http://127.0.0.1:4318`"))?;
    if !Monitoring::NAMES.contains(&name) {
        return Err(format!("there is no `{name}`; there are {}", Monitoring::NAMES.join(", ")));
    }
    let of = |value: Value| serde_json::from_value::<Monitoring>(serde_json::json!({ name: value }));
    let read = serde_json::from_str(value).ok().and_then(|value| of(value).ok());
    let said = read.map_or_else(|| of(value.into()).map_err(|e| e.to_string()), Ok)?;
    match said.fault() {
        Some((name, problem)) => Err(format!("`{name}`: {}", problem.message)),
        None => Ok(said),
    }
}

/// What the spec says, with what the command line says instead.
pub fn said(spec: &Spec, flags: &[Monitoring]) -> Monitoring {
    let of_spec = match spec {
        Spec::Pipeline(spec) => spec.monitoring.clone(),
        Spec::Chain(spec) => spec.monitoring.clone(),
    };
    flags.iter().cloned().fold(of_spec.unwrap_or_default(), Monitoring::with)
}

impl Settings {
    /// All of it; none when nobody says where to.
    ///
    /// # Errors
    /// When an address, header or number is none. Values are not repeated: there may be secrets in them.
    pub fn of(said: &Monitoring, env: &Env) -> Result<Option<Self>, String> {
        let world = Variables(env);
        if world.get("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        let (traces, metrics) =
            (world.target("TRACES", "v1/traces", said)?, world.target("METRICS", "v1/metrics", said)?);
        if traces.is_none() && metrics.is_none() {
            return Ok(None);
        }
        let interval = world.millis("OTEL_METRIC_EXPORT_INTERVAL")?.filter(|interval| !interval.is_zero());
        Ok(Some(Self {
            traces,
            metrics,
            sampler: said.sample.map_or_else(|| world.sampler(), |share| Ok(Sampler::TraceIdRatioBased(share)))?,
            payloads: said.payloads.unwrap_or(false),
            interval: said.interval.map(|interval| interval.0).or(interval).unwrap_or(INTERVAL),
            resource: world.resource()?,
        }))
    }
}

/// The variables of a world.
struct Variables<'a>(&'a Env);

impl Variables<'_> {
    /// One that is empty is not set, as the specification says.
    fn get(&self, name: &str) -> Option<String> {
        self.0.variable(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    /// `OTEL_EXPORTER_OTLP_TRACES_TIMEOUT`, or else `OTEL_EXPORTER_OTLP_TIMEOUT`: its name and value.
    fn of_signal(&self, signal: &str, what: &str) -> Option<(String, String)> {
        let names = [format!("OTEL_EXPORTER_OTLP_{signal}_{what}"), format!("OTEL_EXPORTER_OTLP_{what}")];
        names.into_iter().find_map(|name| self.get(&name).map(|value| (name, value)))
    }

    fn target(&self, signal: &str, path: &str, said: &Monitoring) -> Result<Option<Target>, String> {
        if self.get(&format!("OTEL_{signal}_EXPORTER")).is_some_and(|exporter| exporter == "none") {
            return Ok(None);
        }
        let whole = format!("OTEL_EXPORTER_OTLP_{signal}_ENDPOINT");
        let below = |name: &str, base: &str| url(name, &format!("{}/{path}", base.trim_end_matches('/')));
        let url = match (&said.otlp, self.get(&whole), self.get("OTEL_EXPORTER_OTLP_ENDPOINT")) {
            (Some(base), ..) => below("otlp", base),
            // What is said of one kind of things is the whole address.
            (_, Some(address), _) => url(&whole, &address),
            (_, _, Some(base)) => below("OTEL_EXPORTER_OTLP_ENDPOINT", &base),
            (None, None, None) => return Ok(None),
        }?;
        if let Some((name, protocol)) = self.of_signal(signal, "PROTOCOL").filter(|(_, value)| value != "http/protobuf")
            && said.otlp.is_none()
        {
            return Err(format!(
                "{name} is `{protocol}`, and this command sends `http/protobuf` alone; say where with `--monitoring otlp=URL`"
            ));
        }
        let timeout = self.of_signal(signal, "TIMEOUT").map(|(name, value)| millis(&name, &value)).transpose()?;
        let headers = self.of_signal(signal, "HEADERS").map(|(name, value)| headers(&name, &value)).transpose()?;
        Ok(Some(Target { url, headers: headers.unwrap_or_default(), timeout: timeout.unwrap_or(TIMEOUT) }))
    }

    fn millis(&self, name: &str) -> Result<Option<Duration>, String> {
        self.get(name).map(|value| millis(name, &value)).transpose()
    }

    /// Every trace begins here, so that what the parent decides is decided here too.
    fn sampler(&self) -> Result<Sampler, String> {
        const NAME: &str = "OTEL_TRACES_SAMPLER";
        let share = || -> Result<Sampler, String> {
            let share = self.get("OTEL_TRACES_SAMPLER_ARG").map_or(Ok(1.0), |share| share.parse());
            let share = share.ok().filter(|share| (0.0..=1.0).contains(share));
            share
                .map(Sampler::TraceIdRatioBased)
                .ok_or_else(|| "OTEL_TRACES_SAMPLER_ARG is a share from 0 to 1".to_owned())
        };
        match self.get(NAME).as_deref() {
            None | Some("always_on" | "parentbased_always_on") => Ok(Sampler::AlwaysOn),
            Some("always_off" | "parentbased_always_off") => Ok(Sampler::AlwaysOff),
            Some("traceidratio" | "parentbased_traceidratio") => share(),
            Some(other) => {
                Err(format!("{NAME}: `{other}` is none that is known here: always_on, always_off, traceidratio"))
            }
        }
    }

    /// What is said of the one that sends; by itself it is called `bourn`.
    fn resource(&self) -> Result<Vec<KeyValue>, String> {
        const NAME: &str = "OTEL_RESOURCE_ATTRIBUTES";
        let said = self.get(NAME).map(|all| pairs(NAME, &all)).transpose()?.unwrap_or_default();
        let name = self.get("OTEL_SERVICE_NAME").map(|name| ("service.name".to_owned(), name));
        let instance = format!("{:016x}{:016x}", self.0.random(), self.0.random());
        let own = [
            ("service.name", "bourn"),
            ("service.version", env!("CARGO_PKG_VERSION")),
            ("service.instance.id", &instance),
            ("telemetry.sdk.language", "rust"),
            ("telemetry.sdk.name", "bourn"),
            ("telemetry.sdk.version", env!("CARGO_PKG_VERSION")),
        ];
        let own = own.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut all: Vec<(String, String)> = Vec::new();
        for (name, value) in name.into_iter().chain(said).chain(own) {
            if !all.iter().any(|(known, _)| *known == name) {
                all.push((name, value));
            }
        }
        Ok(all.into_iter().map(|(name, value)| text(&name, value)).collect())
    }
}

fn url(name: &str, text: &str) -> Result<Url, String> {
    let url = Url::parse(text).ok().filter(|url| ["http", "https"].contains(&url.scheme()) && url.has_host());
    url.ok_or_else(|| format!("{name} is no URL of a collector, such as `http://127.0.0.1:4318`"))
}

fn millis(name: &str, text: &str) -> Result<Duration, String> {
    text.parse().map(Duration::from_millis).map_err(|_| format!("{name} is a number of milliseconds"))
}

/// `a=1,b=two%20words`.
fn pairs(name: &str, text: &str) -> Result<Vec<(String, String)>, String> {
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=')?;
        let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
        Some((key.trim().to_owned(), value.into_owned()))
    };
    let all = text.split(',').filter(|part| !part.trim().is_empty());
    all.map(pair).collect::<Option<_>>().ok_or_else(|| format!("{name} is a list such as `name=value,other=value`"))
}

fn headers(name: &str, text: &str) -> Result<HeaderMap, String> {
    let header = |(header, value): (String, String)| {
        let mut value = HeaderValue::try_from(value).ok()?;
        value.set_sensitive(true);
        Some((HeaderName::try_from(header).ok()?, value))
    };
    let all = pairs(name, text)?.into_iter().map(header);
    all.collect::<Option<_>>().ok_or_else(|| format!("{name} has something that is no header"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;

    use super::*;

    fn world(variables: &[(&str, &str)]) -> Env {
        let variables: BTreeMap<_, _> = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Env::system().with_variables(variables)
    }

    fn of(said: &str, variables: &[(&str, &str)]) -> Result<Option<Settings>, String> {
        let said = if said.is_empty() { Monitoring::default() } else { parse(said).unwrap() };
        Settings::of(&said, &world(variables))
    }

    fn urls(settings: &Settings) -> [Option<&str>; 2] {
        [&settings.traces, &settings.metrics].map(|target| target.as_ref().map(|target| target.url.as_str()))
    }

    #[test]
    fn where_to_is_said_by_the_command_line_then_by_the_variables_of_opentelemetry() {
        assert!(of("", &[]).unwrap().is_none());
        assert!(of("sample=0.5", &[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")]).unwrap().is_none());
        let general = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:1/base/");
        let traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://t:2/own");
        let all = of("", &[general, traces]).unwrap().unwrap();
        assert_eq!(urls(&all), [Some("http://t:2/own"), Some("http://c:1/base/v1/metrics")]);
        let said = of("otlp=https://s:3", &[general, traces, ("OTEL_METRICS_EXPORTER", "none")]).unwrap().unwrap();
        assert_eq!(urls(&said), [Some("https://s:3/v1/traces"), None]);
        assert!(of("otlp=http://s:3", &[("OTEL_SDK_DISABLED", "TRUE")]).unwrap().is_none());
    }

    #[test]
    fn headers_times_names_and_samplers_are_those_of_the_variables() {
        let settings = of(
            "otlp=http://c",
            &[
                ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Basic%20eA%3D%3D, x-tenant=a"),
                ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "250"),
                ("OTEL_METRIC_EXPORT_INTERVAL", "1500"),
                ("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,deployment.environment=test"),
                ("OTEL_SERVICE_NAME", "reviews"),
                ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
                ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
            ],
        );
        let settings = settings.unwrap().unwrap();
        let (traces, metrics) = (settings.traces.unwrap(), settings.metrics.unwrap());
        assert_eq!(
            (&traces.headers["authorization"], &traces.headers["x-tenant"]),
            (&"Basic eA==".parse().unwrap(), &"a".parse().unwrap())
        );
        assert!(!format!("{:?}", traces.headers).contains("eA=="));
        assert_eq!(
            (traces.timeout, metrics.timeout, settings.interval),
            (TIMEOUT, Duration::from_millis(250), Duration::from_millis(1_500))
        );
        let value = |name: &str| {
            let found = settings.resource.iter().find(|kv| kv.key == name)?.value.clone()?.value?;
            if let Any::StringValue(text) = found { Some(text) } else { None }
        };
        assert_eq!(value("service.name").as_deref(), Some("reviews"));
        assert_eq!(
            (value("deployment.environment").as_deref(), value("telemetry.sdk.language").as_deref()),
            (Some("test"), Some("rust"))
        );
        assert!(matches!(settings.sampler, Sampler::TraceIdRatioBased(share) if share == 0.25));
    }

    #[test]
    fn what_can_not_be_followed_is_told_without_its_value() {
        let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318");
        let wrong = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "hunter2"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
            ("OTEL_TRACES_SAMPLER", "xray"),
        ];
        let told = wrong.map(|wrong| of("", &[base, wrong]).map(|_| ()).unwrap_err());
        insta::assert_debug_snapshot!(told, @r#"
        [
            "OTEL_EXPORTER_OTLP_ENDPOINT is no URL of a collector, such as `http://127.0.0.1:4318`",
            "OTEL_EXPORTER_OTLP_HEADERS is a list such as `name=value,other=value`",
            "OTEL_EXPORTER_OTLP_PROTOCOL is `grpc`, and this command sends `http/protobuf` alone; say where with `--monitoring otlp=URL`",
            "OTEL_EXPORTER_OTLP_TIMEOUT is a number of milliseconds",
            "OTEL_TRACES_SAMPLER: `xray` is none that is known here: always_on, always_off, traceidratio",
        ]
        "#);
        let wrong = ["otlp", "otlp=collector", "to=http://c", "sample=2", "payloads=some"];
        let wrong = wrong.map(|text| parse(text).unwrap_err());
        insta::assert_debug_snapshot!(wrong, @r#"
        [
            "`otlp` is nothing to monitor: write `otlp=http://127.0.0.1:4318`",
            "`otlp`: this is no URL of a collector",
            "there is no `to`; there are otlp, sample, payloads, interval, log_level",
            "`sample`: this is a share from 0 to 1",
            "invalid type: string \"some\", expected a boolean",
        ]
        "#);
    }
}
