-- New weights are on disk: name them, if this learner is still the one. KEYS: progress. ARGV: epoch, version, step, path
local known = tonumber(redis.call('HGET', KEYS[1], 'epoch') or '0')
if known > tonumber(ARGV[1]) then return redis.error_reply('FENCED epoch ' .. ARGV[1] .. ' is behind ' .. known) end
if redis.call('HGET', KEYS[1], 'published_path') == ARGV[4] and redis.call('HGET', KEYS[1], 'policy_version') == ARGV[2] then
  return 1  -- a repeat whose first answer was lost
end
if tonumber(redis.call('HGET', KEYS[1], 'policy_version') or '0') >= tonumber(ARGV[2]) then
  return redis.error_reply('FENCED policy_version ' .. ARGV[2] .. ' does not grow')
end
redis.call('HSET', KEYS[1], 'policy_version', ARGV[2], 'published_step', ARGV[3], 'published_path', ARGV[4])
return 1
