//! As much of Rust's syntax as it takes to find the paths in a source file.

/// The source up to its module of tests, which is the last thing in a file.
pub(super) fn without_tests(source: &str) -> String {
    let mut kept = String::new();
    let mut lines = source.lines().peekable();
    while let Some(line) = lines.next() {
        let module = |next: &&str| next.starts_with("mod ") && next.contains('{');
        if line == "#[cfg(test)]" && lines.peek().is_some_and(module) {
            break;
        }
        kept += line;
        kept.push('\n');
    }
    kept
}

/// The lines that hold code, outside of the module of tests.
pub(super) fn lines_of_code(source: &str) -> usize {
    let code = blanked(&without_tests(source));
    code.lines().filter(|line| !line.trim().is_empty()).count()
}

/// The source without its comments, and with the content of its strings and characters left out. The lines stay.
fn blanked(source: &str) -> String {
    let characters: Vec<char> = source.chars().collect();
    let mut code = String::new();
    let mut at = 0;
    let starts = |at: usize, text: &str| {
        text.chars()
            .enumerate()
            .all(|(offset, wanted)| characters.get(at + offset) == Some(&wanted))
    };
    let lines = |from: usize, to: usize| {
        let skipped = &characters[from..to.min(characters.len())];
        "\n".repeat(skipped.iter().filter(|&&skipped| skipped == '\n').count())
    };
    while at < characters.len() {
        let from = at;
        if starts(at, "//") {
            while at < characters.len() && characters[at] != '\n' {
                at += 1;
            }
        } else if starts(at, "/*") {
            let mut depth = 0;
            loop {
                if starts(at, "/*") {
                    depth += 1;
                    at += 2;
                } else if starts(at, "*/") {
                    depth -= 1;
                    at += 2;
                } else {
                    at += 1;
                }
                if depth == 0 || at >= characters.len() {
                    break;
                }
            }
            code += &lines(from, at);
        } else if let Some(end) = string_end(&characters, at) {
            at = end;
            // It is code, each line of it, only not a path.
            code += "\"\"";
            code += &lines(from, at).replace('\n', "\n\"\"");
        } else {
            // A name is taken as a whole, so that the r at its end begins no raw string.
            loop {
                code.push(characters[at]);
                at += 1;
                let word = |at: usize| {
                    characters
                        .get(at)
                        .is_some_and(|next| next.is_alphanumeric() || *next == '_')
                };
                if !(word(at - 1) && word(at)) {
                    break;
                }
            }
        }
    }
    code
}

/// Where the string or character that begins here ends; `None` if none begins.
fn string_end(characters: &[char], start: usize) -> Option<usize> {
    let get = |at: usize| characters.get(at).copied();
    let mut at = start;
    if matches!(get(at), Some('b' | 'c')) && matches!(get(at + 1), Some('r' | '"' | '\'')) {
        at += 1;
    }
    if get(at) == Some('r') {
        let mut hashes = 0;
        while get(at + 1 + hashes) == Some('#') {
            hashes += 1;
        }
        if get(at + 1 + hashes) != Some('"') {
            return None;
        }
        at += 2 + hashes;
        while at < characters.len() {
            let closes =
                get(at) == Some('"') && (1..=hashes).all(|hash| get(at + hash) == Some('#'));
            at += 1;
            if closes {
                return Some(at + hashes);
            }
        }
        return Some(at);
    }
    let quote = get(at).filter(|quote| matches!(quote, '"' | '\''))?;
    // Not a lifetime or a label.
    if quote == '\'' && get(at + 1) != Some('\\') && get(at + 2) != Some('\'') {
        return None;
    }
    at += 1;
    while let Some(next) = get(at) {
        at += 1;
        if next == '\\' {
            at += 1;
        } else if next == quote {
            break;
        }
    }
    Some(at)
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    Name(String),
    /// `::`
    Colons,
    Other(char),
}

fn tokens(code: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut characters = code.chars().peekable();
    while let Some(next) = characters.next() {
        if next.is_alphabetic() || next == '_' {
            let mut name = String::from(next);
            while let Some(more) = characters.next_if(|next| next.is_alphanumeric() || *next == '_')
            {
                name.push(more);
            }
            tokens.push(Token::Name(name));
        } else if next == ':' && characters.next_if_eq(&':').is_some() {
            tokens.push(Token::Colons);
        } else if !next.is_whitespace() {
            tokens.push(Token::Other(next));
        }
    }
    tokens
}

/// Every path of `source`, from `crate` where it is one of this crate, else as it is written; groups are taken apart.
/// `module` is the place of the file in its crate.
pub(super) fn paths(source: &str, module: &[&str]) -> Vec<Vec<String>> {
    let tokens = tokens(&blanked(source));
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let used = at > 0 && tokens[at - 1] == Token::Name("use".to_owned());
        match &tokens[at] {
            Token::Name(name) if name == "use" => at += 1,
            Token::Name(_) => {
                let seen = found.len();
                tree(&tokens, &mut at, &[], &mut found);
                // A lone name is a crate in a `use` only.
                if !used && found[seen..].iter().all(|path| path.len() == 1) {
                    found.truncate(seen);
                }
            }
            Token::Other('{') if used => tree(&tokens, &mut at, &[], &mut found),
            _ => at += 1,
        }
    }
    let resolved = found.into_iter().map(|path| resolve(&path, module));
    resolved.filter(|path| !path.is_empty()).collect()
}

/// Reads `a`, `a::b`, `a::*`, `a::{b, c::d}`, each with what stands before it.
fn tree(tokens: &[Token], at: &mut usize, before: &[String], found: &mut Vec<Vec<String>>) {
    let mut path = before.to_vec();
    loop {
        match tokens.get(*at) {
            Some(Token::Name(name)) => {
                path.push(name.clone());
                *at += 1;
            }
            Some(Token::Other('{')) => {
                *at += 1;
                while !matches!(tokens.get(*at), None | Some(Token::Other('}'))) {
                    match tokens.get(*at) {
                        // `as` and its name are a path of their own, which is none.
                        Some(Token::Name(name)) if name == "as" => *at += 2,
                        Some(Token::Name(_) | Token::Other('{')) => tree(tokens, at, &path, found),
                        _ => *at += 1,
                    }
                }
                *at += 1;
                return;
            }
            _ => break,
        }
        if tokens.get(*at) != Some(&Token::Colons) {
            break;
        }
        *at += 1;
    }
    found.push(path);
}

fn resolve(path: &[String], module: &[&str]) -> Vec<String> {
    let mut names = path.iter();
    let mut base: Vec<&str> = Vec::new();
    let mut rest = names.as_slice();
    let own = |name: &String| matches!(name.as_str(), "crate" | "self" | "super" | "claviger");
    if !path.first().is_some_and(own) {
        return path.to_vec();
    }
    while let Some(name) = names.next() {
        match name.as_str() {
            "crate" | "claviger" => base = vec!["crate"],
            "self" if base.is_empty() => base = [&["crate"], module].concat(),
            // `a::{self}`
            "self" => {}
            "super" => {
                if base.is_empty() {
                    base = [&["crate"], module].concat();
                }
                base.pop();
            }
            _ => break,
        }
        rest = names.as_slice();
    }
    let base = base.into_iter().map(str::to_owned);
    base.chain(rest.iter().cloned()).collect()
}
