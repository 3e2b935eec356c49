//! Bad workflows: each fault with its place and the way out.

use insta::assert_snapshot;

use super::told;

#[test]
fn keys_of_steps() {
    assert_snapshot!(told("steps:\n  - id: a\n    command: /query\n    args: x\n    depend_on: b\n"), @"spec.yaml:5:5 unknown key `depend_on` (did you mean `depends_on`?)");
    assert_snapshot!(told("steps:\n  - command: /query\n    args: x\n"), @"spec.yaml:2:5 this step has no `id` (later steps read it by its id)");
    assert_snapshot!(told("steps:\n  - id: a\n"), @"spec.yaml:2:5 this step has no `command` (there are `/protocol`, `/query`, `/task`, `model`, `process`, `set`)");
    assert_snapshot!(told("steps:\n  - id: a\n    command: /qery\n"), @"spec.yaml:3:14 unknown command `/qery` (did you mean `/query`?)");
    assert_snapshot!(told("steps:\n  - id: a\n    command: http\n    args: x\n"), @"spec.yaml:3:14 `http` stands for the kind `http`, and there is none (see `bourn list`, and `routing:` for what commands stand for)");
    assert_snapshot!(told("steps:\n  - id: a\n    command: set\n    uses: model\n"), @"spec.yaml:4:11 a step does one thing, and `set` is said already (write two steps)");
    assert_snapshot!(told("steps:\n  - id: a\n    for_each: { in: x }\n    command: set\n    args: 1\n"), @"spec.yaml:3:21 what a step goes through is one place with a list (for example `in: ${input.files}`)");
    assert_snapshot!(told("steps:\n  - id: a\n    for_each: { in: [1, '${input.b}'] }\n    command: set\n    args: 1\n"), @"spec.yaml:3:21 the elements of a list in the spec are values, without places (a list with places is jq: `in: ${[.input.a, .input.b]}`)");
    assert_snapshot!(told("steps:\n  - id: a\n    for_each: { in: '${input.x}', as: input }\n    command: set\n    args: 1\n"), @"spec.yaml:3:39 `input` can't be the name of an element: `${input}` means something else");
    assert_snapshot!(told("steps:\n  - id: a\n    for_each: { in: '${input.x}' }\n    command: set\n    args: '${itm}'\n"), @"spec.yaml:5:12 there is no step `itm` (did you mean `item`?)");
    assert_snapshot!(told("steps:\n  - id: a\n    command: set\n    args: 1\n    if: ${.input.x > }\n"), @"spec.yaml:5:22 `.input.x >` is no jq: term expected");
    assert_snapshot!(told("steps:\n  - id: a\n    command: set\n    args: 1\n    timeout: soon\n"), @"spec.yaml:5:14 `soon` is no duration such as `200ms`, `5m` or `1d`: expected number at 0");
    assert_snapshot!(told("steps:\n  - id: a\n    command: set\n    args: 1\n    retry: { attempts: 3 }\n"), @"spec.yaml:5:14 unknown key `attempts` (did you mean `max_attempts`?)");
    assert_snapshot!(told("steps:\n  - id: a\n    command: set\n    args: 1\n    retry: { max_attempts: 0, initial_interval: x }\n"), @r"
    spec.yaml:5:28 this must be at least 1
    spec.yaml:5:49 `x` is no duration such as `200ms`, `5m` or `1d`: expected number at 0
    ");
    assert_snapshot!(told("steps:\n  - id: a\n    command: set\n    args: 1\n    if: ${input.a} and ${input.b}\n"), @"spec.yaml:5:9 a condition is one place that is true or false (for example `if: ${input.wanted}` or `if: ${.input.count > 3}`)");
    assert_snapshot!(told("steps: []\n"), @"spec.yaml:1:8 too few here: at least 1 must be said");
    assert_snapshot!(told("steps:\n  - a\n"), @"spec.yaml:2:5 expected a map, found a text");
}

#[test]
fn what_results_are_to_be_like() {
    let step = |more: &str| told(&format!("steps:\n  - id: a\n    command: set\n    args: 1\n{more}"));
    assert_snapshot!(step("    output: { schema: { type: nothing } }\n"), @r#"spec.yaml:5:23 this is no JSON Schema: "nothing" is not valid under any of the schemas listed in the 'anyOf' keyword"#);
    assert_snapshot!(step("    output: { schema: { type: integer } }\n    default: none\n"), @"spec.yaml:6:14 this does not fit the `output.schema` of the step (\"none\" is not of type \"integer\")");
    assert_snapshot!(step("    output: { shema: {} }\n"), @"spec.yaml:5:15 unknown key `shema` (did you mean `schema`?)");
    assert_snapshot!(told("steps:\n  - id: a\n    workflow: { spec: { steps: [ { id: b, command: set, args: 1 } ] } }\n    output: { schema: {} }\n"), @"spec.yaml:4:5 the results of a `workflow` are not checked here (say it in the workflow)");
}

#[test]
fn names_in_jq() {
    let step = |args: &str| {
        told(&format!(
            "steps:\n  - {{ id: review, command: set, args: 1 }}\n  - {{ id: b, command: set, args: '{args}' }}\n"
        ))
    };
    assert_snapshot!(step("${.revew.results | length}"), @"spec.yaml:3:38 there is no step `revew` (did you mean `review`?)");
    assert_snapshot!(step("${ .review.result }"), @"spec.yaml:3:39 a step has no `result` (did you mean `results`?)");
    assert_snapshot!(step("a ${.b.results}"), @"spec.yaml:3:40 `b` can't read itself");
    assert_snapshot!(step("${.steps.review.results}"), @"spec.yaml:3:38 there is no step `steps` (jq sees each step under its id: `.id.results`)");
    assert_snapshot!(step("${.input.x + .nothing[0]}"), @"spec.yaml:3:49 there is no step `nothing` (a plain `${` is written `$${`; a variable is `${env.NAME}`)");
    assert_snapshot!(step("${.input.anything | .else}"), @"");
    assert_snapshot!(step("${. | keys}"), @"");
    assert_snapshot!(step("${[.[]]}"), @"");
    assert_snapshot!(step("${.input.n? // .nothing? // 3}"), @"");
    assert_snapshot!(step("${.foo = 3 | .foo}"), @"");
    // A member that is called as the step itself, or another one, is none.
    assert_snapshot!(step("${.review.results.b + .input.review}"), @"");
}

#[test]
fn paths_of_outputs() {
    let file = |path: &str| {
        told(&format!("steps:\n  - {{ id: b, command: set, args: 1 }}\noutput_format: {{ file: '{path}' }}\n"))
    };
    assert_snapshot!(file("out/${b.results.name}.json"), @"spec.yaml:3:29 `${b}` is what step `b` gave here, not its record (leave `.results` out; a member of that name is `${.b.results}`)");
    assert_snapshot!(file("out/${c}.json"), @"spec.yaml:3:29 unknown name `c`");
    assert_snapshot!(file("out/${.c}.json"), @"spec.yaml:3:32 unknown name `c`");
    let jq = |jq: &str| told(&format!("steps:\n  - {{ id: b, command: set, args: 1 }}\noutput_format: '{jq}'\n"));
    assert_snapshot!(jq("${ .zz }"), @"spec.yaml:3:21 unknown name `zz`");
    assert_snapshot!(jq("${ . | keys + (.zz? // []) + .b }"), @"");
}

#[test]
fn ids_and_dependencies() {
    let set = "command: set, args: 1";
    assert_snapshot!(told(&format!("steps:\n  - {{ id: a, {set} }}\n  - {{ id: a, {set} }}\n")), @"spec.yaml:3:11 the id `a` is here twice (give each step an `id` of its own)");
    assert_snapshot!(told(&format!("steps:\n  - {{ id: first, {set} }}\n  - {{ id: b, {set}, depends_on: [frist] }}\n")), @"spec.yaml:3:50 there is no step `frist` (did you mean `first`?)");
    assert_snapshot!(told(&format!("steps:\n  - {{ id: input, {set} }}\n  - {{ id: 'b c', {set}, needs: zzz }}\n")), @r"
    spec.yaml:2:11 `input` can't be the id of a step: `${input}` means something else
    spec.yaml:3:11 `b c` can't be an id (an id is at most 64 letters, digits, `_` and `-`, begins with a letter, and not with `_bourn_`)
    spec.yaml:3:48 there is no step `zzz` (there is: input)
    ");
    let circle = format!(
        "steps:\n  - {{ id: a, {set}, depends_on: c }}\n  - {{ id: b, {set}, needs: a }}\n  - {{ id: c, command: set, args: '${{b.results}}' }}\n"
    );
    assert_snapshot!(told(&circle), @"spec.yaml:2:49 cycle: a -> b -> c -> a (each can start only after the one before it; take one away)");
    assert_snapshot!(told(&format!("steps:\n  - {{ id: a, {set}, depends_on: a }}\n")), @"spec.yaml:2:49 cycle: a -> a (each can start only after the one before it; take one away)");
}

#[test]
fn ways_rounds_and_what_is_tried_otherwise() {
    let spec = "steps:
  - id: route
    switch:
      - { when: '${input.x}', then: nowhere }
      - { then: b }
      - { when: '${input.y}', then: b }
  - { id: b, command: set, args: 1, compensate: { command: set, args: 1, if: '${input.x}' } }
  - { id: c, command: set, args: 1, fallback: [] }
  - { id: d, command: set, args: 1, repeat: { max_iterations: 3 } }
  - { id: e, command: set, args: 1, repeat: { until: '${.e.results == 1}', max_iterations: 0 } }
  - { id: f, switch: [{ then: b }], command: set }
  - { id: g, command: set, args: 1, fallback: [ { comand: set } ] }
finally:
  - { command: set, args: 1 }
  - { id: b, command: set, args: 1 }
targets: { p95: soon, success_rate: 2 }
";
    assert_snapshot!(told(spec), @"
    spec.yaml:4:37 there is no step `nowhere` (there is: b, c, d, e, f, g, b)
    spec.yaml:6:9 this way is never taken: one before it has no `when` (the way without `when` stands last)
    spec.yaml:7:74 unknown key `if` (known: `command`, `uses`, `args`, `with`, `timeout`, `retry`, `workflow`, `pipeline`)
    spec.yaml:8:47 too few here: at least 1 must be said
    spec.yaml:9:45 the key `until` is missing
    spec.yaml:10:92 this must be at least 1
    spec.yaml:11:14 a step does one thing, and `set` is said already (write two steps)
    spec.yaml:12:51 unknown key `comand` (did you mean `command`?)
    spec.yaml:14:5 this step has no `id` (later steps read it by its id)
    spec.yaml:15:11 the id `b` is here twice (give each step an `id` of its own)
    spec.yaml:16:17 `soon` is no duration such as `200ms`, `5m` or `1d`: expected number at 0
    spec.yaml:16:37 this must be at most 1
    ");
    let circle =
        "steps:\n  - { id: a, command: set, args: 1, needs: r }\n  - { id: r, needs: a, switch: [{ then: a }] }\n";
    assert_snapshot!(told(circle), @"spec.yaml:2:44 cycle: a -> r -> a (each can start only after the one before it; take one away)");
}

#[test]
fn places_in_arguments() {
    let spec = |args: &str| {
        format!("steps:\n  - {{ id: one, command: set, args: 1 }}\n  - id: two\n    command: set\n    args: {args}\n")
    };
    assert_snapshot!(told(&spec("x ${oen.results} y")), @"spec.yaml:5:13 there is no step `oen` (a plain `${` is written `$${`; a variable is `${env.NAME}`)");
    assert_snapshot!(told(&spec("'${one.result}'")), @"spec.yaml:5:12 a step has no `result` (did you mean `results`?)");
    assert_snapshot!(told(&spec("'${one.text}'")), @"spec.yaml:5:12 a step has no `text` (what it gave is `${one.results.text}`)");
    assert_snapshot!(told(&spec("${two.results}")), @"spec.yaml:5:11 `two` can't read itself");
    assert_snapshot!(told(&spec("${steps.on.results}")), @"spec.yaml:5:11 there is no step `on` (did you mean `one`?)");
    assert_snapshot!(told(&spec("${steps}")), @"spec.yaml:5:11 `${steps…}` names no step (write `${steps.id.results}`)");
    assert_snapshot!(told(&spec("{ a: [1, 'b ${1 + }'] }")), @"spec.yaml:5:29 `1 +` is no jq: term expected");
    assert_snapshot!(told(&spec("${HOME}")), @"spec.yaml:5:11 there is no step `HOME` (a plain `${` is written `$${`; a variable is `${env.NAME}`)");
    assert_snapshot!(told(&spec("${one.results")), @"spec.yaml:5:11 `${` without its `}` (write `$${` for a plain `${`)");
}

#[test]
fn configurations_of_steps() {
    assert_snapshot!(told("steps:\n  - id: a\n    command: /query\n    args: [1]\n"), @"spec.yaml:4:11 expected a text, found a list");
    assert_snapshot!(told("steps:\n  - id: a\n    command: process\n    args: ls -l\n"), @"spec.yaml:4:11 expected a list, found a text");
    assert_snapshot!(told("steps:\n  - id: a\n    command: /query\n    args: x\n    with: { modl: opus }\n"), @"spec.yaml:5:13 unknown key `modl` (did you mean `model`?)");
    assert_snapshot!(told("steps:\n  - id: a\n    command: /query\n    args: x\n    with: { prompt: y }\n"), @"spec.yaml:4:5 `args` is the `prompt` that `with` says already");
    assert_snapshot!(told("steps:\n  - id: a\n    command: /query\n    args: x\n    with: { limits: { timeout: soon } }\n"), @r"
    spec.yaml:5:23 `limits.timeout` has no effect in a step (say `timeout` beside `command`)
    spec.yaml:5:32 `soon` is no duration such as `200ms`, `5m` or `1d`: expected number at 0
    ");
    assert_snapshot!(told("steps:\n  - id: a\n    command: /query\n"), @"spec.yaml:3:14 the key `prompt` is missing");
    assert_snapshot!(told("steps:\n  - id: a\n    set: { vale: 1 }\n"), @r"
    spec.yaml:3:10 the key `value` is missing
    spec.yaml:3:12 unknown key `vale` (did you mean `value`?)
    ");
    assert_snapshot!(told("steps:\n  - id: a\n    command: zip\n    args: 1\n"), @"spec.yaml:4:11 expected a map, found a number");
}

#[test]
fn answers_from_a_cache() {
    let step = |more: &str| told(&format!("steps:\n  - {{ id: a, {more} }}\n"));
    assert_snapshot!(step("command: set, args: 1, cache: { ttl: 0s, tt: 1 }"), @"spec.yaml:2:55 unknown key `tt` (did you mean `ttl`?)");
    assert_snapshot!(step("command: set, args: 1, cache: { ttl: 0s }"), @"spec.yaml:2:51 an answer that holds for no time is never found");
    assert_snapshot!(step("command: set, args: 1, cache: {}, repeat: { until: '${.a.rounds > 1}', max_iterations: 2 }"), @"spec.yaml:2:37 what is done in rounds reads what the round before gave, and is not cached (take one of them away)");
    assert_snapshot!(step("workflow: { spec: { steps: [{ id: b, command: set, args: 1 }] } }, cache: {}"), @"spec.yaml:2:81 a workflow is not answered from a cache (say it of the steps in it)");
    assert_snapshot!(step("switch: [{ then: b }], cache: {} }\n  - { id: b, command: set, args: 1"), @"spec.yaml:2:37 a `switch` asks nobody, so there is nothing to be cached (take `cache` away)");
}

#[test]
fn the_whole_of_a_workflow() {
    assert_snapshot!(told("type: chain\nstep:\n  - id: a\n"), @r"
    spec.yaml:1:7 a chain needs `steps`, and there are none
    spec.yaml:2:1 unknown key `step` (did you mean `steps`?)
    ");
    assert_snapshot!(told("steps:\n  - { id: a, command: set, args: 1 }\noptimization: { paralel_where_possible: true, max_concurrency: 0 }\n"), @r"
    spec.yaml:3:17 unknown key `paralel_where_possible` (did you mean `parallel_where_possible`?)
    spec.yaml:3:64 this must be at least 1
    ");
    assert_snapshot!(told("steps:\n  - { id: a, command: set, args: 1 }\ninput: { schema: { type: 7 } }\n"), @"spec.yaml:3:18 this is no JSON Schema: 7 is not valid under any of the schemas listed in the 'anyOf' keyword");
    assert_snapshot!(told("steps:\n  - { id: a, command: set, args: 1 }\nrouting: { /x: { knd: model } }\n"), @r"
    spec.yaml:3:16 the key `kind` is missing
    spec.yaml:3:18 unknown key `knd` (did you mean `kind`?)
    ");
    assert_snapshot!(told("steps:\n  - { id: a, command: /x, args: 1 }\nrouting: { /x: modle }\n"), @"spec.yaml:2:23 `/x` stands for the kind `modle`, and there is none (did you mean `model`?)");
    assert_snapshot!(told("steps:\n  - { id: a, command: set, args: 1 }\npriority: 1\noutput_format: table\n"), @r"
    spec.yaml:3:1 `priority` comes with a later version of Bourn (remove it for now)
    spec.yaml:4:16 `table` is none of `last`, `map`, `list`, `text`
    ");
}

#[test]
fn routes() {
    let spec = "steps:
  - id: who
    for_each: { in: '${input.list}', as: one }
    route: { policy: epsilon_greedy, epsilon: 1.5, ways: [a, nowhere], reward: 'much ${a.results}' }
    cache: { ttl: 1d }
  - { id: a, command: set, args: 1 }
  - { id: one, route: { policy: epsilon_greedy, ways: [a], reward: '${nobody.results}' } }
  - { id: two, route: { policy: greedy, ways: [a, who], reward: '${a.results}' } }
  - { id: both, command: set, args: 1, route: { policy: epsilon_greedy, ways: [a, who], reward: '${a.results}' } }
";
    assert_snapshot!(told(spec), @"
    spec.yaml:4:47 this must be at most 1
    spec.yaml:7:55 too few here: at least 2 must be said
    spec.yaml:8:33 `greedy` is none of `epsilon_greedy`
    spec.yaml:9:40 a step does one thing, and `set` is said already (write two steps)
    ");
    let spec = "steps:
  - id: who
    for_each: { in: '${input.list}', as: one }
    route: { policy: epsilon_greedy, ways: [a, nowhere], reward: 'much ${a.results}' }
    cache: { ttl: 1d }
    quality_gates: [{ condition: '${. == 1}' }]
  - { id: a, command: set, args: 1 }
  - { id: b, command: set, args: 1 }
  - { id: two, route: { policy: epsilon_greedy, ways: [a, b], reward: '${nobody.results}' }, repeat: { until: '${two.results}', max_iterations: 2 } }
  - { id: three, route: { policy: epsilon_greedy, ways: [a, b], reward: '${a.result}' } }
  - { id: four, needs: b, route: { policy: epsilon_greedy, ways: [a, b], reward: '${.a.results}' } }
";
    assert_snapshot!(told(spec), @"
    spec.yaml:3:5 a `route` chooses once
    spec.yaml:4:48 there is no step `nowhere` (there is: a, b, two, three, four)
    spec.yaml:4:66 a reward is one place with a number (for example `reward: ${.answer.results.score}`)
    spec.yaml:5:5 a `route` chooses anew for each run (take `cache` away)
    spec.yaml:6:5 what chooses or undoes gives no results to judge
    spec.yaml:8:5 cycle: b -> four -> b (each can start only after the one before it; take one away)
    spec.yaml:9:72 there is no step `nobody` (a plain `${` is written `$${`; a variable is `${env.NAME}`)
    spec.yaml:9:94 a `route` chooses once
    spec.yaml:10:74 a step has no `result` (did you mean `results`?)
    ");
}
