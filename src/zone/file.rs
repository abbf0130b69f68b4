//! Zone files (RFC 1035 §5): directives and records, with every problem at its place.
//!
//! | directive | effect |
//! |---|---|
//! | `$ORIGIN name` | completes relative names from here on |
//! | `$TTL period` | TTL of records that give none (RFC 2308 §4) |
//! | `$INCLUDE file [origin]` | reads a file here; origin and owner are as before behind it; [`Files`] says which may be |
//! | `$GENERATE range owner … data` | see `generate` |
//!
//! A record without TTL takes `$TTL`, else the TTL last given, else the MINIMUM of the SOA. Files that are open form a
//! stack of frames. What the records mean together is judged by `check`.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use super::check;
use super::collect::Problems;
use super::generate::{self, Range};
use super::lexer::{Entry, Input, Lexer, Outcome, Quoting, Token, octets, quote};
use super::rdata::{self, read_name};
use super::records::{Record, Records, TooMany};
use super::ttl::{self, MAX_TTL};
use crate::dns::name::wire_is_at_or_below;
use crate::dns::{Class, Name, RecordType};
use crate::problem::{Problem, SourceId, Sources, Span};

/// Most files open within one another.
const MAX_DEPTH: usize = 8;
/// Most files that a zone includes.
const MAX_INCLUDES: usize = 10_000;
/// Most records of a zone.
const MAX_RECORDS: usize = 20_000_000;
/// Most records that all `$GENERATE` of a zone make.
const MAX_GENERATED: usize = 1 << 20;
/// Most octets of a `$GENERATE`'s template, and of what one number makes of it.
const MAX_TEMPLATE: usize = 4096;

/// Where `$INCLUDE` finds files.
pub trait Files {
    /// What a file is called by whatever path it is named: no links, no `..`.
    ///
    /// # Errors
    /// When there is no such file.
    fn resolve(&self, path: &Path) -> io::Result<PathBuf>;

    /// The folder that all included files are below, resolved; `None` = they may be anywhere.
    fn root(&self) -> Option<&Path>;

    /// The text of a file, by its resolved path.
    ///
    /// # Errors
    /// When it cannot be read, or is no text.
    fn read(&self, resolved: &Path) -> io::Result<String>;
}

/// Reads the zone file `file` of `sources` with `origin` as its first `$ORIGIN`; `files` has what `$INCLUDE` names.
/// Returns all records that are in order and all problems, in the order of the files.
///
/// Bounds: 20 million records of 4 GiB, 10 000 included files, 8 of them open at once, 65 536 records a `$GENERATE` and 2^20 of
/// them in all, 1000 errors and 1000 warnings.
pub fn parse(sources: &mut Sources, file: SourceId, origin: &Name, files: &dyn Files) -> (Records, Vec<Problem>) {
    let mut loader = Loader::new(origin, sources, file, files);
    loader.run(sources, files);
    let Loader { mut records, mut problems, .. } = loader;
    check::check(origin, file, &mut records, &mut problems);
    records.shrink();
    (records, problems.finish())
}

/// The zone that a file is of by its first `$ORIGIN`, where that is an absolute name.
#[must_use]
pub fn first_origin(text: &str) -> Option<Name> {
    let input = Input { text, source: SourceId(0), pinned: None };
    let (mut lexer, mut tokens) = (Lexer::default(), Vec::new());
    while let Some(entry) = lexer.next(text, &mut tokens) {
        let is_origin = |token: &Token| !entry.blank_owner && input.raw(*token).eq_ignore_ascii_case("$ORIGIN");
        if let [directive, name] = tokens[..]
            && is_origin(&directive)
        {
            let completed = read_name(input, name, &Name::parse("relative.", None).ok()?).ok()?;
            return read_name(input, name, &Name::root()).ok().filter(|name| *name == completed);
        }
    }
    None
}

/// A file that is open.
struct Frame {
    source: SourceId,
    /// As it was named: what it includes is relative to its folder.
    path: PathBuf,
    lexer: Lexer,
    origin: Name,
    owner: Owner,
}

/// The owner that a line starting with a blank has.
#[derive(Clone)]
enum Owner {
    /// There was no record yet.
    None,
    /// It was given, but is no name; its records are read for their problems only.
    Bad,
    Known(Name),
}

/// An `$INCLUDE`, to be opened when its line is done with.
struct Include {
    path: PathBuf,
    origin: Name,
    owner: Owner,
    span: Span,
}

struct Loader {
    zone: Name,
    frames: Vec<Frame>,
    records: Records,
    /// Room for the data of the record at work.
    rdata: Vec<u8>,
    problems: Problems,
    /// `$TTL`.
    default_ttl: Option<u32>,
    /// The TTL last given, or taken from the SOA.
    last_ttl: Option<u32>,
    /// All that were read, by their resolved paths.
    files: HashMap<PathBuf, SourceId>,
    includes: usize,
    generated: usize,
    /// A bound was met, nothing more is read.
    is_full: bool,
}

/// What stands between owner and record data.
struct Head<'a> {
    ttl: Option<u32>,
    rtype: RecordType,
    type_token: Token,
    data: &'a [Token],
}

impl Loader {
    fn new(zone: &Name, sources: &Sources, file: SourceId, files: &dyn Files) -> Loader {
        let path = sources.get(file).path.clone();
        let resolved = files.resolve(&path).unwrap_or_else(|_| path.clone());
        let frame = Frame { source: file, path, lexer: Lexer::default(), origin: zone.clone(), owner: Owner::None };
        Loader {
            zone: zone.clone(),
            frames: vec![frame],
            records: Records::default(),
            rdata: Vec::new(),
            problems: Problems::default(),
            default_ttl: None,
            last_ttl: None,
            files: HashMap::from([(resolved, file)]),
            includes: 0,
            generated: 0,
            is_full: false,
        }
    }

    fn run(&mut self, sources: &mut Sources, files: &dyn Files) {
        let mut tokens = Vec::new();
        while let Some(mut frame) = self.frames.pop() {
            let source = sources.get(frame.source);
            let input = Input { text: &source.text, source: frame.source, pinned: None };
            let include = self.read_on(&mut frame, input, &mut tokens);
            if include.is_some() {
                self.frames.push(frame);
            }
            if let Some(include) = include {
                self.include(include, sources, files);
            }
        }
    }

    /// Reads a file up to its end or to an `$INCLUDE`.
    fn read_on(&mut self, frame: &mut Frame, input: Input<'_>, tokens: &mut Vec<Token>) -> Option<Include> {
        while !self.is_full
            && let Some(entry) = frame.lexer.next(input.text, tokens)
        {
            match self.entry(frame, input, entry, tokens) {
                Ok(None) => {}
                Ok(include) => return include,
                Err(problem) => self.problems.push(*problem),
            }
        }
        None
    }

    fn entry(
        &mut self,
        frame: &mut Frame,
        input: Input<'_>,
        entry: Entry,
        tokens: &[Token],
    ) -> Outcome<Option<Include>> {
        if let Some(fault) = entry.fault {
            if !entry.blank_owner {
                frame.owner = Owner::Bad;
            }
            return Err(Box::new(Problem::error(input.span(fault.start..fault.end), fault.message)));
        }
        let is_directive = !entry.blank_owner && input.raw(tokens[0]).starts_with('$');
        if is_directive && tokens[0].quoting == Quoting::Bare {
            return self.directive(frame, input, tokens);
        }
        self.record(frame, input, entry.blank_owner, tokens).map(|()| None)
    }

    fn directive(&mut self, frame: &mut Frame, input: Input<'_>, tokens: &[Token]) -> Outcome<Option<Include>> {
        let name = input.raw(tokens[0]);
        match name.to_ascii_uppercase().as_str() {
            "$ORIGIN" => {
                let [token] = arguments(input, tokens, "$ORIGIN name")?;
                frame.origin = read_name(input, token, &frame.origin)?;
            }
            "$TTL" => {
                let [token] = arguments(input, tokens, "$TTL period")?;
                // After a bad one, missing TTLs are not reported on top.
                self.default_ttl.get_or_insert(0);
                self.default_ttl = Some(read_ttl(input, token)?);
            }
            "$INCLUDE" => return include(frame, input, tokens).map(Some),
            "$GENERATE" => self.generate(frame, input, tokens)?,
            _ => return Err(unknown_directive(input, tokens[0])),
        }
        Ok(None)
    }

    /// Opens an included file.
    fn include(&mut self, include: Include, sources: &mut Sources, files: &dyn Files) {
        let Include { path, origin, owner, span } = include;
        match self.open(&path, span, sources, files) {
            Ok(source) => self.frames.push(Frame { source, path, lexer: Lexer::default(), origin, owner }),
            Err(problem) => self.problems.push(*problem),
        }
    }

    fn open(&mut self, path: &Path, span: Span, sources: &mut Sources, files: &dyn Files) -> Outcome<SourceId> {
        let shown = path.display();
        let error = |message: String| Box::new(Problem::error(span, message));
        let unreadable = |problem| error(format!("{shown} cannot be read: {problem}"));
        let resolved = files.resolve(path).map_err(unreadable)?;
        let known = self.files.get(&resolved).copied();
        if self.frames.iter().any(|frame| Some(frame.source) == known) {
            return Err(error(format!("{shown} includes itself")));
        }
        if let Some(root) = files.root().filter(|root| !resolved.starts_with(root)) {
            let problem = error(format!("{shown} is outside {}", root.display()));
            return Err(Box::new(problem.hint("`include-root` names the folder that included files are below")));
        }
        if self.frames.len() > MAX_DEPTH {
            return Err(error(format!("more than {MAX_DEPTH} files included within one another")));
        }
        self.includes += 1;
        if self.includes > MAX_INCLUDES {
            return Err(error(format!("more than {MAX_INCLUDES} included files")));
        }
        if let Some(source) = known {
            return Ok(source);
        }
        let source = sources.add(path, files.read(&resolved).map_err(unreadable)?);
        self.files.insert(resolved, source);
        Ok(source)
    }

    fn record(&mut self, frame: &mut Frame, input: Input<'_>, blank_owner: bool, tokens: &[Token]) -> Outcome<()> {
        let mut rest = tokens;
        if !blank_owner {
            frame.owner = Owner::Bad;
            frame.owner = Owner::Known(read_name(input, tokens[0], &frame.origin)?);
            rest = &tokens[1..];
        }
        let head = head(input, tokens, rest)?;
        let room = std::mem::take(&mut self.rdata);
        let rdata = rdata::encode(head.rtype, input, head.type_token, head.data, &frame.origin, room)?;
        let ttl = self.ttl(input, &head, &rdata)?;
        let owner = match &frame.owner {
            Owner::Known(owner) => owner,
            Owner::Bad => return Ok(()),
            Owner::None => return Err(input.error(tokens[0], "a record without owner before any record with one")),
        };
        let span = input.span(tokens[0].start..tokens.last().map_or(tokens[0].end, |last| last.end));
        self.push(Record { owner: owner.as_wire(), rtype: head.rtype, ttl, rdata: &rdata, span })?;
        self.rdata = rdata;
        Ok(())
    }

    fn push(&mut self, record: Record<'_>) -> Outcome<()> {
        if !wire_is_at_or_below(record.owner, self.zone.as_wire()) {
            let message = format!("{} is outside the zone", record.name());
            let problem = Problem::error(record.span, message).allowed(format!("names at or below {}", self.zone));
            return Err(Box::new(problem));
        }
        if self.records.len() == MAX_RECORDS {
            self.is_full = true;
            return Err(Box::new(Problem::error(record.span, format!("more than {MAX_RECORDS} records in a zone"))));
        }
        self.records.push(record).map_err(|TooMany| {
            self.is_full = true;
            Box::new(Problem::error(record.span, "more than 4 GiB of records in a zone"))
        })
    }

    /// The TTL of a record, by the rule above.
    fn ttl(&mut self, input: Input<'_>, head: &Head<'_>, rdata: &[u8]) -> Outcome<u32> {
        if let Some(ttl) = head.ttl {
            self.last_ttl = Some(ttl);
            return Ok(ttl);
        }
        if let Some(ttl) = self.default_ttl.or(self.last_ttl) {
            return Ok(ttl);
        }
        if let (RecordType::SOA, Some(minimum)) = (head.rtype, rdata.last_chunk::<4>()) {
            let ttl = u32::from_be_bytes(*minimum).min(MAX_TTL);
            self.last_ttl = Some(ttl);
            return Ok(ttl);
        }
        // Said once, not for every record that follows.
        self.last_ttl = Some(0);
        let problem = input.error(head.type_token, "no TTL is known here");
        Err(Box::new(problem.hint("begin the file with $TTL, such as `$TTL 5m`")))
    }

    fn generate(&mut self, frame: &mut Frame, input: Input<'_>, tokens: &[Token]) -> Outcome<()> {
        let [directive, range, template @ ..] = tokens else { return Err(too_few(input, tokens, GENERATE)) };
        if template.len() < 3 {
            return Err(too_few(input, tokens, GENERATE));
        }
        let text = input.raw(*range);
        let numbers = Range::parse(text).map_err(|message| {
            let problem = input.error(*range, format!("{} {message}", quote(text)));
            Box::new(problem.hint(format!("usage: {GENERATE}")))
        })?;
        let template = template_of(input, template);
        if template.len() > MAX_TEMPLATE {
            return Err(input.error(*range, format!("a template of more than {MAX_TEMPLATE} octets")));
        }
        let end = tokens[tokens.len() - 1].end;
        let whole = Token { end, ..*directive };
        for number in numbers.numbers() {
            self.generated += 1;
            if self.generated > MAX_GENERATED {
                return Err(input.error(whole, format!("more than {MAX_GENERATED} generated records in a zone")));
            }
            self.generate_one(frame, input, whole, &template, number)?;
        }
        Ok(())
    }

    fn generate_one(
        &mut self,
        frame: &mut Frame,
        input: Input<'_>,
        whole: Token,
        template: &str,
        number: u32,
    ) -> Outcome<()> {
        let mut line = String::new();
        generate::substitute(template, number, &mut line).map_err(|message| input.error(whole, message))?;
        if line.len() > MAX_TEMPLATE {
            return Err(input.error(whole, format!("{number} makes more than {MAX_TEMPLATE} octets")));
        }
        let generated = Input { text: &line, source: input.source, pinned: Some((whole.start, whole.end)) };
        let mut tokens = Vec::new();
        let entry = Lexer::default().next(&line, &mut tokens).filter(|entry| entry.fault.is_none());
        if entry.is_none() || tokens.is_empty() {
            return Err(input.error(whole, format!("{number} makes no record")));
        }
        self.record(frame, generated, false, &tokens)
            .map_err(|problem| Box::new(problem.hint(format!("the record for {number} is {}", quote(&line)))))
    }
}

/// How `$GENERATE` is written.
const GENERATE: &str = "$GENERATE start-stop[/step] owner [TTL] [class] type data";

/// Reads `[TTL] [class] type`, TTL and class in either order.
fn head<'a>(input: Input<'_>, entry: &[Token], mut rest: &'a [Token]) -> Outcome<Head<'a>> {
    let (mut ttl, mut class) = (None, None);
    while let Some((&token, behind)) = rest.split_first() {
        let raw = input.raw(token);
        if token.quoting != Quoting::Bare {
            return Err(input.error(token, "a quoted string where the type should be"));
        }
        if ttl.is_none() && raw.starts_with(|first: char| first.is_ascii_digit()) {
            ttl = Some(read_ttl(input, token)?);
        } else if class.is_none() && is_class(raw) {
            class = Some(read_class(input, token)?);
        } else {
            let rtype = read_type(input, token)?;
            return Ok(Head { ttl, rtype, type_token: token, data: behind });
        }
        rest = behind;
    }
    let last = entry[entry.len() - 1];
    Err(Box::new(input.error(last, "the record ends before its type").allowed("owner [TTL] [class] type data")))
}

fn is_class(raw: &str) -> bool {
    let generic = raw.get(..5).filter(|start| start.eq_ignore_ascii_case("CLASS")).map(|_| &raw[5..]);
    generic.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|octet| octet.is_ascii_digit()))
        || ["IN", "CH", "HS", "CS", "NONE"].iter().any(|class| raw.eq_ignore_ascii_case(class))
}

fn read_class(input: Input<'_>, token: Token) -> Outcome<Class> {
    let raw = input.raw(token);
    let generic = raw.get(5..).and_then(|digits| digits.parse().ok());
    if raw.eq_ignore_ascii_case("IN") || generic == Some(Class::IN.0) {
        return Ok(Class::IN);
    }
    Err(Box::new(input.error(token, format!("class {}", quote(raw))).allowed("IN")))
}

fn read_ttl(input: Input<'_>, token: Token) -> Outcome<u32> {
    let raw = input.raw(token);
    let Some(seconds) = ttl::seconds(raw).filter(|_| token.quoting == Quoting::Bare) else {
        let problem = input.error(token, format!("{} is not a TTL", quote(raw)));
        return Err(Box::new(problem.allowed("seconds, or numbers with units such as 1h30m (w d h m s)")));
    };
    u32::try_from(seconds).ok().filter(|seconds| *seconds <= MAX_TTL).ok_or_else(|| {
        let problem = input.error(token, format!("a TTL of {seconds} seconds"));
        Box::new(problem.allowed(format!("0 to {MAX_TTL}")))
    })
}

fn read_type(input: Input<'_>, token: Token) -> Outcome<RecordType> {
    let raw = input.raw(token);
    let Some(rtype) = RecordType::parse(raw) else {
        return Err(unknown_type(input, token));
    };
    if rtype.is_meta() {
        return Err(input.error(token, format!("{rtype} is a type of queries and messages, not of zones")));
    }
    const SIGNING: [RecordType; 6] = [
        RecordType::RRSIG,
        RecordType::NSEC,
        RecordType::NSEC3,
        RecordType::NSEC3PARAM,
        RecordType::SIG,
        RecordType::NXT,
    ];
    if SIGNING.contains(&rtype) {
        let problem = input.error(token, format!("{rtype} in a zone file"));
        return Err(Box::new(problem.allowed("unsigned zones only; signing is done online").hint("remove the record")));
    }
    Ok(rtype)
}

fn unknown_type(input: Input<'_>, token: Token) -> Box<Problem> {
    let raw = input.raw(token);
    let mut problem = input.error(token, format!("unknown type {}", quote(raw)));
    problem.allowed = Some("a type such as A or MX, or TYPE123 with `\\#`, a length and hexadecimal digits".into());
    let known = (1..=257).map(RecordType).filter(|rtype| rdata::form(*rtype).is_some()).map(|rtype| rtype.to_string());
    problem.hint = nearest(raw, known);
    problem
}

/// "did you mean", when one of the words is close.
fn nearest(raw: &str, words: impl Iterator<Item = String>) -> Option<String> {
    if raw.len() > 16 {
        return None;
    }
    let upper = raw.to_ascii_uppercase();
    let (distance, word) = words.map(|word| (strsim::damerau_levenshtein(&upper, &word), word)).min()?;
    (distance <= 2 && distance < word.len().min(raw.len())).then(|| format!("did you mean `{word}`?"))
}

fn unknown_directive(input: Input<'_>, token: Token) -> Box<Problem> {
    const DIRECTIVES: [&str; 4] = ["$ORIGIN", "$TTL", "$INCLUDE", "$GENERATE"];
    let raw = input.raw(token);
    let mut problem = input.error(token, format!("unknown directive {}", quote(raw)));
    problem.allowed = Some(format!("{}; a name that begins with a dollar is written `\\$…`", DIRECTIVES.join(", ")));
    problem.hint = nearest(raw, DIRECTIVES.into_iter().map(String::from));
    problem
}

/// Exactly `N` arguments of a directive.
fn arguments<const N: usize>(input: Input<'_>, tokens: &[Token], usage: &str) -> Outcome<[Token; N]> {
    if let Some(extra) = tokens.get(N + 1) {
        let problem = input.error(*extra, format!("unexpected {}", quote(input.raw(*extra))));
        return Err(Box::new(problem.allowed(usage)));
    }
    <[Token; N]>::try_from(&tokens[1..]).map_err(|_| too_few(input, tokens, usage))
}

fn too_few(input: Input<'_>, tokens: &[Token], usage: &str) -> Box<Problem> {
    let whole = Token { end: tokens[tokens.len() - 1].end, ..tokens[0] };
    Box::new(input.error(whole, "the directive ends too early").allowed(usage))
}

/// `$INCLUDE file [origin]`; the path is relative to the file it stands in.
fn include(frame: &Frame, input: Input<'_>, tokens: &[Token]) -> Outcome<Include> {
    const USAGE: &str = "$INCLUDE file [origin]";
    let (file, origin) = match tokens.len() {
        3.. => arguments::<2>(input, tokens, USAGE).map(|[file, origin]| (file, Some(origin)))?,
        _ => arguments::<1>(input, tokens, USAGE).map(|[file]| (file, None))?,
    };
    let origin = origin.map(|origin| read_name(input, origin, &frame.origin)).transpose()?;
    let text = octets(input.raw(file)).map_err(|message| input.error(file, message))?;
    let text = std::str::from_utf8(&text).ok().filter(|text| !text.is_empty() && !text.contains('\0'));
    let text = text.ok_or_else(|| input.error(file, format!("{} is not a path", quote(input.raw(file)))))?;
    Ok(Include {
        path: frame.path.parent().map_or_else(|| text.into(), |folder| folder.join(text)),
        origin: origin.unwrap_or_else(|| frame.origin.clone()),
        owner: frame.owner.clone(),
        span: input.span(file.start..file.end),
    })
}

/// The record of a `$GENERATE` in one line. Its data may be one quoted string (`"10 mail$"`), which is opened unless
/// the type's data is strings.
fn template_of(input: Input<'_>, tokens: &[Token]) -> String {
    let last = tokens.len() - 1;
    let mut types = (1..last).filter_map(|index| Some((index, RecordType::parse(input.raw(tokens[index]))?)));
    let rtype = types.next().filter(|(index, _)| index + 1 == last).map(|(_, rtype)| rtype);
    let opens = rtype.and_then(rdata::form).is_some_and(|form| !form.contains(&rdata::Field::Texts));
    let quoted = |(index, token): (usize, &Token)| {
        let raw = input.raw(*token);
        let is_data = opens && index == last;
        if token.quoting == Quoting::Quoted && !is_data { format!("\"{raw}\"") } else { raw.to_string() }
    };
    tokens.iter().enumerate().map(quoted).collect::<Vec<_>>().join(" ")
}
