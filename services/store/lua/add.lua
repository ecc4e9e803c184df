-- Add one entry to a stream outside the ledger. KEYS: stream, its index. ARGV: number, job, step, payload
-- include index
put(KEYS[1], KEYS[2], {'job', ARGV[2], 'number', ARGV[1], 'step', ARGV[3], 'payload', ARGV[4]})
return 1
