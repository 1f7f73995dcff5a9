// Reads simulations from standard input, writes one verdict each: Allowed, or why not.
import { runSimulation } from '@cloud-copilot/iam-simulate'

let text = ''
for await (const chunk of process.stdin) text += chunk
const verdicts = []
for (const simulation of JSON.parse(text)) {
  const outcome = await runSimulation(simulation, {})
  verdicts.push({
    verdict: outcome.overallResult ?? 'Error',
    errors: outcome.errors,
    ignored: outcome.result?.ignoredContextKeys ?? outcome.results?.[0]?.ignoredContextKeys ?? [],
  })
}
process.stdout.write(JSON.stringify(verdicts))
