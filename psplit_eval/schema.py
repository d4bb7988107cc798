"""The tables of samples.sqlite, as the steps that lead to them."""

__all__ = ["MIGRATIONS"]

# Migration n takes a store from version n to version n + 1; released ones never change.
MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE prompts (
        prompt_hash TEXT NOT NULL, mode TEXT NOT NULL, text TEXT NOT NULL, token_ids BLOB NOT NULL,
        PRIMARY KEY (prompt_hash, mode)) WITHOUT ROWID;
    CREATE TABLE docs (
        task TEXT NOT NULL, doc_id INTEGER NOT NULL, doc_hash TEXT NOT NULL, doc TEXT NOT NULL,
        target TEXT NOT NULL, PRIMARY KEY (task, doc_id)) WITHOUT ROWID;
    CREATE TABLE samples (
        mode TEXT NOT NULL, task TEXT NOT NULL, doc_id INTEGER NOT NULL,
        sample_idx INTEGER NOT NULL, doc_hash TEXT NOT NULL, request_hash TEXT NOT NULL,
        prompt_hash TEXT NOT NULL, seed INTEGER NOT NULL, attempt INTEGER NOT NULL,
        text TEXT, thought TEXT, completion_ids BLOB, finish_reason TEXT,
        prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER,
        entropy_sum_bits REAL, nll_sum_nats REAL, error TEXT, seconds REAL NOT NULL,
        created_at TEXT NOT NULL, PRIMARY KEY (mode, task, doc_id, sample_idx));
    CREATE TABLE metrics (
        mode TEXT NOT NULL, task TEXT NOT NULL, doc_id INTEGER NOT NULL, sample_idx INTEGER,
        metric TEXT NOT NULL, value REAL);
    CREATE UNIQUE INDEX metric_key
        ON metrics (mode, task, metric, doc_id, ifnull(sample_idx, -1));
    CREATE TABLE judgements (
        mode TEXT NOT NULL, task TEXT NOT NULL, doc_id INTEGER NOT NULL,
        sample_idx INTEGER NOT NULL, judge TEXT NOT NULL, rubric_hash TEXT NOT NULL,
        dimension TEXT NOT NULL, value REAL, error TEXT, detail TEXT,
        PRIMARY KEY (mode, task, doc_id, sample_idx, judge, rubric_hash, dimension)) WITHOUT ROWID;
    CREATE TABLE divergences (
        mode TEXT NOT NULL, scored_mode TEXT NOT NULL, task TEXT NOT NULL, doc_id INTEGER NOT NULL,
        sample_idx INTEGER NOT NULL, measure TEXT NOT NULL, sum_bits REAL, tokens INTEGER,
        PRIMARY KEY (mode, scored_mode, task, doc_id, sample_idx, measure)) WITHOUT ROWID;
    CREATE TABLE embeddings (
        model TEXT NOT NULL, text_hash TEXT NOT NULL, vector BLOB NOT NULL,
        PRIMARY KEY (model, text_hash)) WITHOUT ROWID;
    """,
    # 2: imported samples come without seed, length and time; scored answers say if they are greedy
    """
    CREATE TABLE wider (
        mode TEXT NOT NULL, task TEXT NOT NULL, doc_id INTEGER NOT NULL,
        sample_idx INTEGER NOT NULL, doc_hash TEXT NOT NULL, request_hash TEXT NOT NULL,
        prompt_hash TEXT NOT NULL, seed INTEGER, attempt INTEGER NOT NULL,
        text TEXT, thought TEXT, completion_ids BLOB, finish_reason TEXT,
        prompt_tokens INTEGER, completion_tokens INTEGER,
        entropy_sum_bits REAL, nll_sum_nats REAL, error TEXT, seconds REAL,
        created_at TEXT NOT NULL, is_greedy INTEGER,
        PRIMARY KEY (mode, task, doc_id, sample_idx));
    INSERT INTO wider SELECT mode, task, doc_id, sample_idx, doc_hash, request_hash, prompt_hash,
        seed, attempt, text, thought, completion_ids, finish_reason, prompt_tokens,
        completion_tokens, entropy_sum_bits, nll_sum_nats, error, seconds, created_at, NULL
        FROM samples;
    DROP TABLE samples;
    ALTER TABLE wider RENAME TO samples;
    """,
    # 3: servers give the log-probabilities of some tokens only, so their entropy is an estimate
    "ALTER TABLE samples ADD COLUMN entropy_estimate_sum_bits REAL;",
    # 4: how surprising a reference model finds texts, piece by piece
    """
    CREATE TABLE surprisals (
        model TEXT NOT NULL, chain_hash TEXT NOT NULL, piece INTEGER NOT NULL,
        token_bits BLOB NOT NULL, PRIMARY KEY (model, chain_hash, piece)) WITHOUT ROWID;
    """,
    # 5: what a sample is worth under other prompts; the table made for it before was never used
    """
    DROP TABLE divergences;
    CREATE TABLE cross_scores (
        mode TEXT NOT NULL, task TEXT NOT NULL, doc_id INTEGER NOT NULL,
        sample_idx INTEGER NOT NULL, policy TEXT NOT NULL, tokens INTEGER NOT NULL,
        entropy_sum_bits REAL, nll_sum_bits REAL, kl_sum_bits REAL,
        kl_back_sum_bits REAL, js_sum_bits REAL, by_token BLOB,
        PRIMARY KEY (mode, task, doc_id, sample_idx, policy));
    """,
    # 6: what judges say lies in a ledger of its own; the table made for it was never used
    "DROP TABLE judgements;",
)
